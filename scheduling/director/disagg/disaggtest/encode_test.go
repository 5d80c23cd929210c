package disaggtest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
)

const (
	picture = `{"type":"image_url", "image_url":{"url":"data:image\/png;base64,AA"}}`
	encodes = `{"model":"m","max_tokens":1,"stream":false,"messages":[{"role":"user","content":[` + picture + `]}]}`
	sees    = `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"what"},` + picture + `,` + picture + `]}]}`
)

// encodedBy asks an encoder, and returns what it gave.
func (g *gateway) encodedBy(t *testing.T, e *dt.Engine) string {
	r := g.post(t.Context(), e, chat, "r-enc-0", encodes)
	require.Equal(t, 200, r.status, "%s", r.body)
	return member(r.body, "ec_transfer_params")
}

func TestEncoder(t *testing.T) {
	for _, ec := range []dt.EC{dt.ECNIXL, dt.ECStorage} {
		t.Run(ec.String(), func(t *testing.T) {
			g := start(t, dt.Options{Plain: 1, Encode: 1, EC: ec})
			body := sees
			if params := g.encodedBy(t, g.c.Encode[0]); ec == dt.ECNIXL {
				body = with(body, `,"ec_transfer_params":`+params)
			} else {
				require.Empty(t, params)
			}
			require.Equal(t, 200, g.post(t.Context(), g.c.Plain[0], chat, "r", body).status)
			require.NoError(t, g.c.Check())
			s := g.c.Stats()
			require.Equal(t, []int{1, 1, 1, 0}, []int{s.Encode, s.Ordinary, s.EncodedElsewhere, s.EncodedHere})
		})
	}
}

// Whoever gets nothing encodes by itself.
func TestEncodedHere(t *testing.T) {
	for name, b := range map[string]dt.Behaviour{"no connector": {NoConnector: true}, "null": {NullParams: true}} {
		t.Run(name, func(t *testing.T) {
			g := start(t, dt.Options{Plain: 1, Encode: 1})
			g.c.Encode[0].SetBehaviour(b)
			require.Contains(t, []string{"", "null"}, g.encodedBy(t, g.c.Encode[0]))
			require.Equal(t, 200, g.post(t.Context(), g.c.Plain[0], chat, "r", sees).status)
			require.NoError(t, g.c.Check())
			require.Equal(t, 1, g.c.Stats().EncodedHere)
		})
	}
}

func TestEncodeViolations(t *testing.T) {
	const max = `"max_tokens":1,`
	for want, leg := range map[string]string{
		"it is not for one item":               strings.Replace(encodes, picture, picture+","+picture, 1),
		"not for one item in one message":      strings.Replace(encodes, picture, `{"type":"text","text":"x"}`, 1),
		"for one item in one message of a use": strings.Replace(encodes, `"user"`, `"system"`, 1),
		"it is streamed":                       strings.Replace(encodes, "false", "true", 1),
		"n is 2":                               strings.Replace(encodes, max, max+`"n":2,`, 1),
		"only one of max_tokens":               strings.Replace(encodes, max, max+`"max_completion_tokens":1,`, 1),
		"it asks for more than one token":      strings.Replace(encodes, max, max+`"tool_choice":"required",`, 1),
		"for those that compute prompts":       strings.Replace(encodes, max, max+`"kv_transfer_params":{"a":1},`, 1),
		"it is not capped at one token":        strings.Replace(encodes, max, "", 1),
	} {
		t.Run(want, func(t *testing.T) {
			g := start(t, dt.Options{Plain: 1, Encode: 1})
			g.post(t.Context(), g.c.Encode[0], chat, "r-enc-0", leg)
			require.Len(t, g.c.Violations(), 1)
			require.ErrorContains(t, g.c.Check(), want)
		})
	}
	for want, send := range map[string]func(t *testing.T, g *gateway){
		"does not end with -enc-": func(t *testing.T, g *gateway) { g.post(t.Context(), g.c.Encode[0], chat, "r", encodes) },
		"are not those handed out": func(t *testing.T, g *gateway) {
			params := strings.Replace(g.encodedBy(t, g.c.Encode[0]), "1.10", "1.1", 1)
			g.post(t.Context(), g.c.Plain[0], chat, "r", with(sees, `,"ec_transfer_params":`+params))
		},
		"which is none of its media": func(t *testing.T, g *gateway) {
			g.post(t.Context(), g.c.Plain[0], chat, "r", with(sees, `,"ec_transfer_params":{"x":{}}`))
		},
		"went to another leg already": func(t *testing.T, g *gateway) {
			params := g.encodedBy(t, g.c.Encode[0])
			for _, id := range []string{"r", "r", "s"} {
				g.post(t.Context(), g.c.Plain[0], chat, id, with(sees, `,"ec_transfer_params":`+params))
			}
		},
		"not as it stands in the request": func(t *testing.T, g *gateway) {
			params := g.encodedBy(t, g.c.Encode[0])
			g.post(t.Context(), g.c.Plain[0], chat, "r", with(strings.ReplaceAll(sees, `\/png`, `/png`), `,"ec_transfer_params":`+params))
		},
		"the prompt is computed elsewhere": func(t *testing.T, g *gateway) {
			g.post(t.Context(), g.c.Decode[0], chat, "r", with(sees, `,"kv_transfer_params":{"do_remote_prefill":true},"ec_transfer_params":{"x":{}}`))
		},
	} {
		t.Run(want, func(t *testing.T) {
			g := start(t, dt.Options{Plain: 1, Decode: 1, Encode: 1})
			send(t, g)
			require.ErrorContains(t, g.c.Check(), want)
		})
	}
}
