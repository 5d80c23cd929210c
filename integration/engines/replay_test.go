package engines_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/integration/engines/recording"
	"github.com/inferpick/inferpick/types"
)

const recorded = "testdata/vllm-0.32"

// exchanges returns what was recorded, by name.
func exchanges(t *testing.T) map[string]recording.Exchange {
	t.Helper()
	all, err := recording.Read(recorded)
	if err != nil || len(all) == 0 {
		t.Fatalf("%d recordings in %s, %v", len(all), recorded, err)
	}
	named := make(map[string]recording.Exchange)
	for _, x := range all {
		named[x.Name] = x
	}
	return named
}

// play starts a server that says of itself what a real one did, and answers everything else
// with what answer returns.
func play(t *testing.T, named map[string]recording.Exchange, answer func() recording.Play) *recording.Player {
	t.Helper()
	p, err := recording.NewPlayer(func(r *http.Request) recording.Play {
		if r.Method == http.MethodGet && r.Header.Get("X-Replayed") == "" { // the gateway's own questions
			switch r.URL.Path {
			case "/metrics":
				return recording.Play{Bytes: named["metrics-idle"].Response}
			case "/v1/models":
				return recording.Play{Bytes: named["models"].Response}
			}
		}
		return answer()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// replayed is a recorded request sent through a gateway.
func replayed(g *gateway, x recording.Exchange) (*http.Response, []byte, error) {
	in, body, err := x.HTTPRequest()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, in.Method, g.URL+in.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = in.Header.Clone()
	req.Header.Set("X-Replayed", "1")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp, got, err
}

// own are questions that a gateway answers by itself, or is to keep from servers.
func own(name string) bool {
	return strings.HasPrefix(name, "metrics-") || strings.HasPrefix(name, "models") || name == "sleep" || name == "is-sleeping"
}

// cut reports whether an answer breaks off.
func cut(t *testing.T, x recording.Exchange) bool {
	t.Helper()
	_, _, err := x.HTTPResponse()
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return err != nil
}

// Where there is one server, a client gets what it says, to the byte: statuses, heads and
// bodies, also of errors. No answer of a healthy engine puts it out. What it used is read.
func TestReplay(t *testing.T) {
	named := exchanges(t)
	for name, x := range named {
		if own(name) {
			continue
		}
		for _, piece := range []int{0, 7} {
			t.Run(fmt.Sprintf("%s/piece=%d", name, piece), func(t *testing.T) {
				t.Parallel()
				hangup := cut(t, x)
				p := play(t, named, func() recording.Play {
					return recording.Play{Bytes: x.Response, Piece: piece, Hangup: hangup}
				})
				g := newGateway(t, p.Address())
				want, wantBody, _ := x.HTTPResponse()
				const times = 4 // more than a server may fail
				for range times {
					resp, body, err := replayed(g, x)
					if resp == nil {
						t.Fatal(err)
					}
					if (err != nil) != hangup {
						t.Errorf("the body ended with %v; it breaks off: %t", err, hangup)
					}
					if resp.StatusCode != want.StatusCode || !bytes.Equal(body, wantBody) {
						t.Fatalf("the client got %d %q\nwant %d %q", resp.StatusCode, body, want.StatusCode, wantBody)
					}
					for key, values := range want.Header {
						if !slices.Equal(resp.Header[key], values) {
							t.Errorf("header %s is %q, want %q", key, resp.Header[key], values)
						}
					}
				}
				for _, out := range g.outcomes.take(t, times) {
					judge(t, name, out, wantBody)
				}
				if out := g.filtered(t); len(out) > 0 && !strings.HasPrefix(name, "refused") {
					t.Errorf("the server is put out: %v", out)
				}
			})
		}
	}
}

// judge compares an outcome with the answer it is of.
func judge(t *testing.T, name string, out types.Outcome, body []byte) {
	t.Helper()
	if busy := strings.HasPrefix(name, "refused"); out.Failed() != busy {
		t.Errorf("outcome %+v: failed is %t, want %t", out, !busy, busy)
	}
	if strings.HasPrefix(name, "tokenize") || strings.HasPrefix(name, "refused") {
		return
	}
	for _, u := range []struct {
		what string
		got  types.Gauge
		in   *regexp.Regexp
	}{
		{"prompt tokens", out.Usage.PromptTokens, promptTokens},
		{"completion tokens", out.Usage.CompletionTokens, completionTokens},
		{"cached tokens", out.Usage.CachedTokens, cachedTokens},
	} {
		want := types.Gauge{}
		if m := u.in.FindAllSubmatch(body, -1); m != nil {
			n, err := strconv.ParseFloat(string(m[len(m)-1][1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			want = types.Known(n)
		}
		if u.got.Or(-1) != want.Or(-1) {
			t.Errorf("%s = %g, want %g (-1: none)", u.what, u.got.Or(-1), want.Or(-1))
		}
	}
}

// The last of each in an answer is what counts.
var (
	promptTokens     = regexp.MustCompile(`"(?:prompt|input)_tokens":(\d+)`)
	completionTokens = regexp.MustCompile(`"(?:completion|output)_tokens":(\d+)`)
	cachedTokens     = regexp.MustCompile(`"(?:cached_tokens|cache_read_input_tokens)":(\d+)`)
)

// A server whose queue is full refuses in several forms. While another has room, no client
// sees any of them.
func TestReplayRefused(t *testing.T) {
	named := exchanges(t)
	for name, x := range named {
		if !strings.HasPrefix(name, "refused") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The good answer to the same question.
			kind := strings.NewReplacer("refused-completion", "completion", "refused-responses", "responses", "refused-messages", "messages", "refused", "chat", "-late", "").Replace(name)
			good, ok := named[kind]
			if !ok {
				t.Fatalf("no good answer %q", kind)
			}
			_, want, err := good.HTTPResponse()
			if err != nil {
				t.Fatal(err)
			}
			hangup := cut(t, x)
			var refused atomic.Int32
			full := play(t, named, func() recording.Play {
				refused.Add(1)
				return recording.Play{Bytes: x.Response, Hangup: hangup}
			})
			free := play(t, named, func() recording.Play { return recording.Play{Bytes: good.Response} })
			for range 8 { // gateways that know nothing yet, and may ask either
				g := newGateway(t, full.Address(), free.Address())
				for range 4 {
					resp, body, err := replayed(g, x)
					if _, begun, _ := x.HTTPResponse(); hangup && err != nil && bytes.HasPrefix(begun, body) {
						continue // it had begun, with events that look like those of a good answer
					}
					if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(body, want) {
						t.Errorf("the client got %v %.200q, want the answer of the other server", err, body)
					}
				}
			}
			if refused.Load() == 0 {
				t.Error("the full server was never asked: the test shows nothing")
			}
		})
	}
}

// A good answer that breaks off anywhere is the server's failure, and nothing is made up
// for what is missing.
func TestReplayCutOff(t *testing.T) {
	named := exchanges(t)
	for _, name := range []string{"chat", "chat-stream", "chat-stream-usage", "completion-stream", "responses-stream", "messages-stream"} {
		x := named[name]
		headEnd := bytes.Index(x.Response, []byte("\r\n\r\n")) + 4
		end := bytes.LastIndex(x.Response, []byte(`"finish_reason":"length"`)) // after that it is whole, if not in form
		if end < headEnd {
			end = headEnd + (len(x.Response)-headEnd)/2
		}
		for _, at := range []int{headEnd + (end-headEnd)/3, headEnd + (end-headEnd)*2/3} {
			t.Run(fmt.Sprintf("%s/at=%d", name, at), func(t *testing.T) {
				t.Parallel()
				p := play(t, named, func() recording.Play { return recording.Play{Bytes: x.Response[:at], Hangup: true} })
				g := newGateway(t, p.Address())
				_, whole, _ := x.HTTPResponse()
				resp, body, err := replayed(g, x)
				switch {
				case resp == nil:
					t.Fatal(err)
				case resp.StatusCode == http.StatusOK && (err == nil || !bytes.HasPrefix(whole, body)):
					t.Errorf("the client got %q, %v: it cannot tell that it is not whole", body, err)
				case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusBadGateway:
					t.Errorf("status %d", resp.StatusCode)
				}
				for _, out := range g.outcomes.take(t, 1) {
					if !out.Failed() || out.Cancelled {
						t.Errorf("outcome %+v, want a failure", out)
					}
				}
			})
		}
	}
}
