package httptransport_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
)

const goodPrefill = `{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":1},"kv_transfer_params":{"remote_engine_id":"e","remote_block_ids":[1]}}`

const goodAnswer = `{"id":"d","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"blue"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`

// rawApart is a gateway in front of endpoints, by their ids, whose answers are written byte by byte.
type rawApart struct {
	front *httptest.Server
	store *datastore.Store

	mu        sync.Mutex
	got       map[string][]string // bodies, by id
	prefilled map[string][]types.Outcome
	finished  []types.Outcome
	ignored   int
}

func newRawApart(t testing.TB, protocol disagg.Protocol, servers map[string]func(net.Conn, *http.Request) bool, change func(*scheduling.Profile, *director.Options, *httptransport.Transport)) *rawApart {
	t.Helper()
	a := &rawApart{store: datastore.New(datastore.Options{}), got: map[string][]string{}, prefilled: map[string][]types.Outcome{}}
	for _, id := range slices.Sorted(maps.Keys(servers)) {
		s := serveRaw(t, servers[id])
		a.add(t, id, s.Addr().String())
	}
	p := scheduling.Profile{
		Splitter: always{}, Picker: plugins.MaxScore{}, Fallbacks: 3, OutputTokens: 8, Seed: 1,
		Scorers: []scheduling.Weighted{{Weight: 1, Scorer: scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
			return 1 - float64(ep.ID[1]-'0')/10
		})}},
	}
	o := director.Options{Store: a.store, Handover: func(_, _ *types.Endpoint) disagg.Protocol { return protocol },
		OnIgnored: func(*director.Route, *types.Endpoint) { a.mu.Lock(); a.ignored++; a.mu.Unlock() }}
	tr := &httptransport.Transport{NameEndpoint: true}
	if change != nil {
		change(&p, &o, tr)
	}
	p.Hooks.Prefilled = func(e scheduling.Event) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.prefilled[e.Prefill.ID] = append(a.prefilled[e.Prefill.ID], e.Outcome)
	}
	p.Hooks.Finished = func(e scheduling.Event) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.finished = append(a.finished, e.Outcome)
	}
	var err error
	o.Scheduler, err = scheduling.New(p)
	require.NoError(t, err)
	tr.Director, err = director.New(o)
	require.NoError(t, err)
	base := httptransport.New(tr.Director).Base
	if tr.Base == nil {
		tr.Base = base
	}
	a.front = httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: tr, FlushInterval: -1})
	t.Cleanup(func() {
		a.front.Close()
		tr.Director.Close()
		tr.CloseIdleConnections()
		a.empty(t)
	})
	return a
}

// add adds an endpoint, whose role is by the first letter of its id.
func (a *rawApart) add(t testing.TB, id, address string) {
	t.Helper()
	role := map[byte]string{'p': "prefill", 'd': "decode", 'n': "decode-only", 'b': "both"}[id[0]]
	require.NoError(t, a.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: id, Address: address, Labels: map[string]string{types.RoleLabel: role}}))
}

func (a *rawApart) empty(t testing.TB) {
	t.Helper()
	for _, ep := range a.store.Snapshot().Pool(pool).Endpoints() {
		require.Eventually(t, func() bool { return ep.Load.Held() == types.Booking{} }, 2*time.Second, time.Millisecond, "%s holds %+v", ep.ID, ep.Load.Held())
	}
}

func (a *rawApart) post(t testing.TB, body string) (int, string, http.Header) {
	t.Helper()
	resp, err := http.Post(a.front.URL+chatPath, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(all), resp.Header
}

func answerOf(head, body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", len(body), head, body)
}

func gzipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, s)
	_ = z.Close()
	return b.String()
}

func chunkedAnswer(pieces []string, trailer string) string {
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n")
	for _, p := range pieces {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(p), p)
	}
	b.WriteString("0\r\n" + trailer + "\r\n")
	return b.String()
}

// What a prefill engine, or a proxy before it, may answer; and what becomes of it. It is relayed, or the
// request is ordinary then, or another engine is asked; else the status is the client's.
const relayed, ordinary, another = 0, 1, 2

func TestHostilePrefill(t *testing.T) {
	params := func(p string) string {
		return strings.Replace(goodPrefill, `{"remote_engine_id":"e","remote_block_ids":[1]}`, p, 1)
	}
	cases := map[string]struct {
		want  int // status
		serve func(net.Conn, *http.Request) bool
	}{
		"good": {relayed, says(answerOf("", goodPrefill))},
		"slow": {relayed, func(c net.Conn, _ *http.Request) bool {
			for _, b := range []byte(chunkedAnswer(strings.Split(goodPrefill, ""), "X-A: b\r\n")) {
				_, _ = c.Write([]byte{b})
			}
			return false
		}},
		"gzip":             {another, says(answerOf("Content-Encoding: gzip\r\n", gzipped(goodPrefill)))},
		"gzip unsaid":      {another, says(answerOf("", gzipped(goodPrefill)))},
		"gzip lie":         {relayed, says(answerOf("Content-Encoding: gzip\r\n", goodPrefill))},
		"br lie":           {relayed, says(answerOf("Content-Encoding: br\r\n", goodPrefill))},
		"http/1.0":         {relayed, says("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + goodPrefill)},
		"error object":     {another, says(answerOf("", `{"error":{"message":"no","type":"x","code":500}}`))},
		"error object 400": {400, says(answerOf("", `{"error":{"message":"no","type":"BadRequestError","code":400}}`))},
		"error string":     {another, says(answerOf("", `{"error":"no"}`))},
		"error null":       {relayed, says(answerOf("", `{"error":null,`+goodPrefill[1:]))},
		"object error":     {400, says(answerOf("", `{"object":"error","message":"no","code":400}`))},
		"204":              {another, says("HTTP/1.1 204 No Content\r\n\r\n")},
		"205":              {another, says("HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n")},
		"206":              {another, says("HTTP/1.1 206 Part\r\nContent-Length: 2\r\n\r\n{}")},
		"201":              {another, says(strings.Replace(answerOf("", goodPrefill), "200 OK", "201 Created", 1))},
		"302":              {another, says("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")},
		"307":              {another, says("HTTP/1.1 307 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")},
		"101": {another, func(c net.Conn, _ *http.Request) bool {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
			return false
		}},
		"001":                {another, says("HTTP/1.1 001 What\r\nContent-Length: 0\r\n\r\n")},
		"999":                {another, says("HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n")},
		"early hints":        {relayed, says("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + answerOf("", goodPrefill))},
		"many hints":         {relayed, says(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 100) + answerOf("", goodPrefill))},
		"trailers":           {relayed, says(chunkedAnswer([]string{goodPrefill}, "X-A: 1\r\nX-B: 2\r\n"))},
		"huge headers":       {relayed, says(answerOf("X-Huge: "+strings.Repeat("a", 1<<20)+"\r\n", goodPrefill))},
		"too huge headers":   {another, says(answerOf("X-Huge: "+strings.Repeat("a", 12<<20)+"\r\n", goodPrefill))},
		"nan":                {another, says(answerOf("", strings.Replace(goodPrefill, `"index":0`, `"logprob":NaN,"index":0`, 1)))},
		"nan params":         {another, says(answerOf("", params(`{"a":NaN,"b":-Infinity}`)))},
		"bom":                {relayed, says(answerOf("", "\xef\xbb\xbf"+goodPrefill))},
		"utf16":              {another, says(answerOf("", "\xff\xfe{\x00}\x00"))},
		"twice params":       {relayed, says(answerOf("", strings.Replace(goodPrefill, `"id":"c"`, `"kv_transfer_params":null`, 1)))},
		"twice params other": {relayed, says(answerOf("", strings.Replace(goodPrefill, `"id":"c"`, `"kv_transfer_params":{"remote_engine_id":"evil"}`, 1)))},
		"array params":       {another, says(answerOf("", params(`[1]`)))},
		"string params":      {another, says(answerOf("", params(`"x"`)))},
		"true params":        {another, says(answerOf("", params(`true`)))},
		"empty params":       {ordinary, says(answerOf("", params(`{}`)))},
		"bad params":         {another, says(answerOf("", params(`{"a":}`)))},
		"deep params":        {another, says(answerOf("", params(`{"a":`+strings.Repeat("[", 100000)+strings.Repeat("]", 100000)+`}`)))},
		"big params":         {another, says(answerOf("", params(`{"a":"`+strings.Repeat("x", 2<<20)+`"}`)))},
		"newline params":     {relayed, says(answerOf("", params("{\n\"a\":\r\n1}")))},
		"big answer":         {another, says(answerOf("", strings.Replace(goodPrefill, `"x"`, `"`+strings.Repeat("x", 17<<20)+`"`, 1)))},
		"big answer chunked": {another, says("HTTP/1.0 200 OK\r\n\r\n" + strings.Replace(goodPrefill, `"x"`, `"`+strings.Repeat("x", 17<<20)+`"`, 1))},
		"empty":              {another, says(answerOf("", ""))},
		"null":               {another, says(answerOf("", "null"))},
		"array":              {another, says(answerOf("", "["+goodPrefill+"]"))},
		"trailing":           {another, says(answerOf("", goodPrefill+goodPrefill))},
		"sse":                {another, says(strings.Replace(answerOf("", "data: "+goodPrefill+"\n\ndata: [DONE]\n\n"), "application/json", "text/event-stream", 1))},
		"sse type":           {relayed, says(strings.Replace(answerOf("", goodPrefill), "application/json", "text/event-stream", 1))},
		"no type":            {relayed, says(strings.Replace(answerOf("", goodPrefill), "Content-Type: application/json\r\n", "", 1))},
		"text":               {relayed, says(strings.Replace(answerOf("", goodPrefill), "application/json", "text/html", 1))},
		"short":              {another, says(strings.Replace(answerOf("", goodPrefill), fmt.Sprint(len(goodPrefill)), fmt.Sprint(len(goodPrefill)+5), 1))},
		"long":               {another, says(strings.Replace(answerOf("", goodPrefill), fmt.Sprint(len(goodPrefill)), fmt.Sprint(len(goodPrefill)-5), 1))},
		"two lengths":        {another, says(answerOf("Content-Length: 3\r\n", goodPrefill))},
		"no http":            {another, says("SSH-2.0-x\r\n")},
		"cut head":           {another, says("HTTP/1.1 200 O")},
		"html 200":           {another, says(strings.Replace(answerOf("", "<html>hello</html>"), "application/json", "text/html", 1))},
		"404":                {404, says("HTTP/1.1 404 No\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")},
		"401":                {401, says("HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\n{}")},
		"408":                {408, says("HTTP/1.1 408 No\r\nContent-Length: 2\r\n\r\n{}")},
		"413":                {413, says("HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\n{}")},
		"422":                {422, says("HTTP/1.1 422 No\r\nContent-Length: 2\r\n\r\n{}")},
		"499":                {499, says("HTTP/1.1 499 No\r\nContent-Length: 2\r\n\r\n{}")},
		"429":                {another, says("HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}")},
		"400 no length":      {400, says("HTTP/1.0 400 No\r\nContent-Type: application/json\r\n\r\n{\"error\":{\"message\":\"bad\"}}")},
		"400 gzip":           {400, says("HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: " + fmt.Sprint(len(gzipped("{}"))) + "\r\n\r\n" + gzipped("{}"))},
		"400 hop":            {400, says("HTTP/1.1 400 No\r\nConnection: X-Hop\r\nX-Hop: a\r\nProxy-Connection: b\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}")},
		"content stop":       {ordinary, says(answerOf("", strings.Replace(params("null"), "length", "stop", 1)))},
	}
	tests := map[string]func(testing.TB){}
	for name, c := range cases {
		tests[name] = func(t testing.TB) {
			a := newRawApart(t, disagg.NIXL(disagg.Options{}), map[string]func(net.Conn, *http.Request) bool{
				"p0": c.serve, "p1": says(answerOf("", strings.Replace(goodPrefill, `"e"`, `"other"`, 1))),
			}, nil)
			decodes := make(chan string, 9)
			a.add(t, "d0", serveBodies(t, func(body string) string {
				decodes <- body
				return answerOf("", goodAnswer)
			}))
			status, body, h := a.post(t, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
			a.empty(t)
			a.mu.Lock()
			defer a.mu.Unlock()
			require.Len(t, a.prefilled["p0"], 1)
			first := a.prefilled["p0"][0]
			require.False(t, first.Cancelled || first.Unsent)
			if c.want > another {
				require.Equal(t, c.want, status, body)
				require.Equal(t, "p0", h.Get(httptransport.HeaderEndpoint))
				require.Empty(t, decodes)
				require.Equal(t, c.want, first.Status)
				require.NoError(t, first.Err)
				require.Equal(t, "", h.Get("Upgrade")+h.Get("X-Hop")+h.Get("Proxy-Connection"), "are of a connection")
				return
			}
			require.Equal(t, 200, status, body)
			require.Equal(t, goodAnswer, body)
			require.Len(t, decodes, 1)
			sent := <-decodes
			require.Equal(t, c.want != another, first.Served(), "%v", first.Err)
			require.Equal(t, c.want == another, len(a.prefilled["p1"]) == 1)
			require.Equal(t, c.want != ordinary, strings.Contains(sent, `"kv_transfer_params":{`), sent)
			require.Equal(t, c.want == another, strings.Contains(sent, `"other"`), sent)
			require.NotContains(t, sent, "evil", "an engine reads the last of two")
		}
	}
	noLeaks(t, func() {
		together(t, tests)
		http.DefaultClient.CloseIdleConnections()
	})
}

// Where both legs run at once, nothing that either engine answers, to a leg or to an abort, keeps the gateway
// at it.
func TestHostileAtOnce(t *testing.T) {
	upgraded := func(c net.Conn, _ *http.Request) bool {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
		return false
	}
	cases := map[string]func(net.Conn, *http.Request) bool{
		"upgraded":       upgraded,
		"closed":         says(""),
		"500":            says("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
		"204":            says("HTTP/1.1 204 No\r\n\r\n"),
		"error":          says(answerOf("", `{"error":{"message":"no","type":"x","code":500}}`)),
		"long and broke": says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n%s", strings.Repeat("x", 2000))),
		"cut off":        says("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
	}
	tests := map[string]func(testing.TB){}
	for name, serve := range cases {
		tests[name] = func(t testing.TB) {
			decode := func(c net.Conn, req *http.Request) bool {
				if req.URL.Path == "/abort_request" {
					return upgraded(c, req)
				}
				if req.Header.Get("X-Bad") == "" {
					return says(answerOf("", goodAnswer))(c, req)
				}
				_, _ = io.Copy(io.Discard, c) // as an engine that waits for the other
				return false
			}
			a := newRawApart(t, badFirst{disagg.SGLang(disagg.Options{})}, map[string]func(net.Conn, *http.Request) bool{
				"p0": serve, "p1": says(answerOf("", goodPrefill)), "d0": decode,
			}, func(_ *scheduling.Profile, _ *director.Options, tr *httptransport.Transport) {
				tr.MaxPrefillAnswer = 1000
			})
			status, body, _ := a.post(t, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
			require.Equal(t, 200, status, body)
			require.Equal(t, goodAnswer, body)
			a.empty(t)
			a.mu.Lock()
			defer a.mu.Unlock()
			require.Len(t, a.prefilled["p0"], 1)
			require.False(t, a.prefilled["p0"][0].Served() || a.prefilled["p0"][0].Cancelled, "%+v", a.prefilled["p0"][0])
		}
	}
	noLeaks(t, func() {
		together(t, tests)
		http.DefaultClient.CloseIdleConnections()
	})
}

// What frees a KV cache that waits for an engine that cannot be reached goes to another, and names no rank that
// only the first one has.
func TestFreeNamesNoRankOfOthers(t *testing.T) {
	type sent struct{ rank, path string }
	got := make(chan sent, 9)
	a := newRawApart(t, disagg.NIXL(disagg.Options{}), map[string]func(net.Conn, *http.Request) bool{
		"p0": says(answerOf("", goodPrefill)),
		"d1": func(c net.Conn, r *http.Request) bool {
			got <- sent{r.Header.Get(types.HeaderRank), r.URL.Path}
			return says(answerOf("", goodAnswer))(c, r)
		},
	}, nil)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody.Close()
	require.NoError(t, a.store.UpsertEndpoint(pool, datastore.EndpointSpec{
		ID: "d0", Address: nobody.Addr().String(), Rank: types.Rank{Index: 3, Of: 4}, Labels: map[string]string{types.RoleLabel: "decode"},
	}))
	status, body, _ := a.post(t, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
	require.Equal(t, 200, status, body)
	for range 2 { // one that frees, and the request
		select {
		case s := <-got:
			require.Equal(t, sent{"", chatPath}, s)
		case <-time.After(5 * time.Second):
			t.Fatal("d1 was not asked")
		}
	}
}

// badFirst marks the decode leg of a hand-over from p0.
type badFirst struct{ disagg.Protocol }

func (b badFirst) Begin(ctx context.Context, r disagg.Request) (disagg.Handover, error) {
	h, err := b.Protocol.Begin(ctx, r)
	return badHandover{h, r.Prefill.ID == "p0"}, err
}

type badHandover struct {
	disagg.Handover
	bad bool
}

func (b badHandover) Decode(answer []byte) (disagg.Decode, error) {
	d, err := b.Handover.Decode(answer)
	if b.bad {
		d.Header = map[string]string{"X-Bad": "1"}
	}
	return d, err
}

// serveBodies starts a server that answers with what answer returns for a body.
func serveBodies(t testing.TB, answer func(body string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, _ := io.ReadAll(r.Body)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, answer(string(all)))
	})}}
	srv.Start()
	t.Cleanup(srv.Close)
	return l.Addr().String()
}
