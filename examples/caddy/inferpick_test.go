package inferpick_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "github.com/inferpick/inferpick/examples/caddy"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/directortest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

const patience = 10 * time.Second

// site is a Caddy in this process that serves one Caddyfile.
type site struct {
	t      *testing.T
	root   string // of Caddy's storage
	addr   string
	client *http.Client
	unread atomic.Int64 // connections that were closed before anything was read
}

var connections = &http.Transport{DisableKeepAlives: true} // a reload closes idle ones

// RoundTrip sends a request again whose connection was closed unread: those that come at the
// very moment at which a server of net/http shuts down are.
func (s *site) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := connections.RoundTrip(req)
	for try := 0; err != nil && try < 5; try++ {
		s.unread.Add(1)
		if req.GetBody != nil {
			req.Body, _ = req.GetBody()
		}
		resp, err = connections.RoundTrip(req)
	}
	return resp, err
}

func newSite(t *testing.T) *site {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	s := &site{t: t, root: t.TempDir(), addr: ln.Addr().String()}
	s.client = &http.Client{Transport: s, Timeout: patience}
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	return s
}

// caddyfile returns a Caddyfile with an inferpick directive, whose options begin at line 13.
func (s *site) caddyfile(block string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %s
	log {
		output discard
	}
}
http://%s {
	bind 127.0.0.1
	inferpick {
%s
	}
}
`, s.root, s.addr, block)
}

// load adapts a Caddyfile and runs it.
func (s *site) load(block string) error {
	config, err := adapt(s.caddyfile(block))
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

func adapt(caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

func (s *site) post(ask directortest.Ask) (*http.Response, error) {
	return s.client.Post("http://"+s.addr+"/v1/chat/completions", "application/json", strings.NewReader(string(ask.Body())))
}

// ask sends a request and reads its answer.
func (s *site) ask(ask directortest.Ask) (int, http.Header, string, error) {
	resp, err := s.post(ask)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(body), err
}

func (s *site) get(path string) (int, string) {
	s.t.Helper()
	resp, err := s.client.Get("http://" + s.addr + path)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return resp.StatusCode, string(body)
}

func servers(t *testing.T, n int, engine directortest.Engine) []*directortest.Server {
	t.Helper()
	var fleet []*directortest.Server
	for range n {
		server := directortest.Start(engine.Behaviour())
		t.Cleanup(server.Close)
		fleet = append(fleet, server)
	}
	return fleet
}

func addresses(fleet []*directortest.Server) string {
	var all []string
	for _, server := range fleet {
		all = append(all, server.Addr())
	}
	return strings.Join(all, " ")
}

// posts returns how many requests of clients a server that keeps them has seen.
func posts(server *directortest.Server) (n int) {
	for _, r := range server.Seen() {
		if r.Method == http.MethodPost {
			n++
		}
	}
	return n
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestAnswersComeByteForByte(t *testing.T) {
	engine := directortest.Engine{}
	fleet := servers(t, 2, engine)
	s := newSite(t)
	require.NoError(t, s.load("server "+addresses(fleet)+"\nname_endpoint"))
	for _, stream := range []bool{false, true} {
		ask := directortest.Ask{Stream: stream}
		status, header, body, err := s.ask(ask)
		require.NoError(t, err)
		require.Equal(t, 200, status)
		require.Equal(t, string(engine.Answer("/v1/chat/completions", ask.Body()).Body()), body)
		require.Contains(t, addresses(fleet), header.Get(httptransport.HeaderEndpoint))
	}
}

// held is an engine that sends the first event of an answer, and the rest when it is released.
func held(release <-chan struct{}) directortest.Behaviour {
	return directortest.Engine{}.Instead("held", func(x *directortest.Exchange, _ *directortest.Request, a directortest.Answer) {
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n", len(a.Body()))
		x.Write([]byte(head + string(a.Parts[0])))
		<-release
		x.Write([]byte(strings.TrimPrefix(string(a.Body()), string(a.Parts[0]))))
		x.Close()
	})
}

// What is under way counts at once.
func TestBurstIsSpread(t *testing.T) {
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	fleet := servers(t, 2, directortest.Engine{})
	for _, server := range fleet {
		require.NoError(t, server.Set(held(release)))
		server.Keep(100)
	}
	t.Cleanup(let)
	s := newSite(t)
	require.NoError(t, s.load("server "+addresses(fleet)))
	for i := range 20 {
		resp, err := s.post(directortest.Ask{Stream: true, Prompt: fmt.Sprintf("question %d", i)})
		require.NoError(t, err)
		defer resp.Body.Close()
	}
	for _, server := range fleet {
		require.InDelta(t, 10, posts(server), 2)
	}
	let()
}

// The first event comes while the server has more to send, and a stream goes on over a reload
// that changes everything.
func TestStreamOverReload(t *testing.T) {
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	server := directortest.Start(held(release))
	t.Cleanup(server.Close)
	t.Cleanup(let)
	others := servers(t, 1, directortest.Engine{})
	s := newSite(t)
	require.NoError(t, s.load("server "+server.Addr()))
	ask := directortest.Ask{Stream: true}
	resp, err := s.post(ask)
	require.NoError(t, err)
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	first, err := body.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, first, "data: ")

	require.NoError(t, s.load("pool other\nserver "+others[0].Addr()+"\nadmission"))
	require.Eventually(t, func() bool { // the old one may still take a connection
		status, _, _, err := s.ask(directortest.Ask{})
		return assert.NoError(t, err) && assert.Equal(t, 200, status) && others[0].Requests() > 0
	}, patience, 10*time.Millisecond, "the new configuration is not in force")

	let()
	rest, err := io.ReadAll(body)
	require.NoError(t, err)
	want := directortest.Engine{}.Answer("/v1/chat/completions", ask.Body()).Body()
	require.Equal(t, string(want), first+string(rest))
}

const manifests = `{"manifests": [
	{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "public"},
	 "spec": {"modelName": "public", "criticality": "Critical", "poolRef": {"name": "llama"}, "targetModels": [{"name": "tiny"}]}}],
 "endpoints": [%s]}`

func TestModelsOfManifests(t *testing.T) {
	fleet := servers(t, 1, directortest.Engine{})
	config := write(t, "models.json", fmt.Sprintf(manifests, `{"pool": "llama", "address": "`+fleet[0].Addr()+`"}`))
	s := newSite(t)
	require.NoError(t, s.load("pool llama\nconfig "+config+"\nrefuse_unknown_models\nrestore_model\nmetrics /metrics"))

	status, _, body, err := s.ask(directortest.Ask{Model: "public", Stream: true})
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Contains(t, body, `"model":"public"`)
	require.NotContains(t, body, `"model":"tiny"`)

	status, header, body, err := s.ask(directortest.Ask{Model: "nonesuch"})
	require.NoError(t, err)
	require.Equal(t, 404, status)
	require.Equal(t, "application/json", header.Get("Content-Type"))
	var refusal struct {
		Error struct{ Code, Message string }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &refusal))
	require.Equal(t, director.CodeModelNotFound, refusal.Error.Code)
	require.Contains(t, refusal.Error.Message, "nonesuch")

	status, body = s.get("/v1/models")
	require.Equal(t, 200, status)
	require.Contains(t, body, `"public"`)

	status, page := s.get("/metrics")
	require.Equal(t, 200, status)
	require.Contains(t, page, `model_name="public",target_model_name="tiny"`)
	require.Contains(t, page, "inference_pool_ready_pods")
	require.Contains(t, page, `error_code="model_not_found"`)
}

func TestFallback(t *testing.T) {
	fleet := servers(t, 3, directortest.Engine{})
	s := newSite(t)
	require.NoError(t, s.load("server "+addresses(fleet)))
	fleet[0].Close()
	require.NoError(t, fleet[1].Set(directortest.Engine{}.Break(directortest.AtHead, directortest.Reset)))
	for i := range 30 {
		status, _, _, err := s.ask(directortest.Ask{Prompt: fmt.Sprintf("question %d", i), Stream: i%2 == 0})
		require.NoError(t, err)
		require.Equal(t, 200, status)
	}
	require.Less(t, fleet[1].Requests(), 10, "a server that fails is left alone")
	fleet[2].Close()
	status, header, body, err := s.ask(directortest.Ask{})
	require.NoError(t, err)
	require.Equal(t, 502, status)
	require.Equal(t, "application/json", header.Get("Content-Type"))
	require.Contains(t, body, director.CodeUpstream)
}

func TestAdmission(t *testing.T) {
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	server := directortest.Start(held(release))
	t.Cleanup(server.Close)
	t.Cleanup(let)
	profile := write(t, "profile.json", `{
		"plugins": [{"type": "max-score-picker", "name": "pick"}],
		"schedulingProfiles": [{"name": "plain", "plugins": [{"pluginRef": "pick"}]}],
		"admission": {
			"detectors": [{"type": "concurrency-detector", "parameters": {"maxConcurrency": 1}}],
			"bands": [{"name": "all", "maxWait": "20ms"}]}}`)
	s := newSite(t)
	require.NoError(t, s.load("server "+server.Addr()+"\nprofile "+profile+"#plain\nmetrics /metrics"))
	first, err := s.post(directortest.Ask{Stream: true})
	require.NoError(t, err)
	defer first.Body.Close()
	status, header, _, err := s.ask(directortest.Ask{})
	require.NoError(t, err)
	require.Equal(t, 429, status)
	require.NotEmpty(t, header.Get("Retry-After"))
	require.NotEmpty(t, header.Get(director.HeaderReason))
	_, page := s.get("/metrics")
	require.Contains(t, page, "inferpick_admission_refused_total")
	let()
}

// Each request is answered while Caddy reloads, and no model server sees one twice.
func TestReloadUnderLoad(t *testing.T) {
	fleet := servers(t, 3, directortest.Engine{PerToken: time.Millisecond})
	for _, server := range fleet {
		server.Keep(10_000)
	}
	s := newSite(t)
	require.NoError(t, s.load("server "+addresses(fleet)))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var answered atomic.Int64
	for client := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				ask := directortest.Ask{Stream: i%2 == 0, Prompt: fmt.Sprintf("question %d of %d", i, client)}
				status, _, body, err := s.ask(ask)
				assert.NoError(t, err)
				assert.Equal(t, 200, status)
				assert.Equal(t, string(directortest.Engine{}.Answer("/v1/chat/completions", ask.Body()).Body()), body)
				answered.Add(1)
			}
		})
	}
	for i := range 20 {
		require.NoError(t, s.load("server "+addresses(fleet[i%2:])))
		for end, late := answered.Load()+8, time.Now().Add(patience); answered.Load() < end; time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(late), "nothing is answered")
		}
	}
	stop()
	wg.Wait()
	seen := 0
	for _, server := range fleet {
		seen += posts(server)
	}
	require.EqualValues(t, answered.Load(), seen, "a request that reached a server was not answered")
	t.Logf("%d requests answered over 20 reloads, %d connections closed unread", answered.Load(), s.unread.Load())
}

// What was counted before a reload is counted after it; a configuration that is rejected
// changes nothing.
func TestStateOverReload(t *testing.T) {
	fleet := servers(t, 2, directortest.Engine{})
	s := newSite(t)
	block := func(servers string) string { return "server " + servers + "\nmetrics /metrics" }
	require.NoError(t, s.load(block(addresses(fleet))))
	total := func() string {
		_, page := s.get("/metrics")
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, "inference_objective_request_total{") {
				return strings.TrimSpace(line[strings.LastIndex(line, " "):])
			}
		}
		return ""
	}
	for i := range 3 {
		s.ask(directortest.Ask{})
		require.Equal(t, strconv.Itoa(i+1), total())
		require.NoError(t, s.load(block(addresses(fleet[i%2:]))))
		require.Equal(t, strconv.Itoa(i+1), total())
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	broken := s.caddyfile(block("127.0.0.1:1")) + "http://" + ln.Addr().String() + " {\n\tbind 127.0.0.1\n\tinferpick {\n\t\tconfig /nonesuch\n\t}\n}\n"
	config, err := adapt(broken)
	require.NoError(t, err)
	require.ErrorContains(t, caddy.Load(config, true), "/nonesuch")
	status, _, _, err := s.ask(directortest.Ask{})
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, "4", total())
}

func TestErrors(t *testing.T) {
	s := newSite(t)
	models := write(t, "models.json", strings.Replace(fmt.Sprintf(manifests, ""), "Critical", "Vital", 1))
	profile := write(t, "profile.json", `{"plugins": [{"type": "nonesuch"}], "schedulingProfiles": []}`)
	for name, tt := range map[string]struct {
		block string
		want  []string
	}{
		"option":    {"server 127.0.0.1:8000\nservers 127.0.0.1:8001", []string{"Caddyfile:14", `"servers"`, "pool, profile, tenant, server, admission"}},
		"argument":  {"server 127.0.0.1:8000\n\npool a b", []string{"Caddyfile:15", "pool"}},
		"address":   {"pool a\nserver 127.0.0.1", []string{"Caddyfile:14", `"127.0.0.1"`, "host:port"}},
		"manifest":  {"config " + models, []string{models, "Vital", "Critical"}},
		"no file":   {"config /nonesuch", []string{"/nonesuch"}},
		"plugin":    {"profile " + profile, []string{profile, `"nonesuch"`}},
		"no policy": {"profile " + profile + "x", []string{profile + "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.load(tt.block)
			require.Error(t, err)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

// The tenant is what Caddy says, not what the client says.
func TestTenant(t *testing.T) {
	fleet := servers(t, 1, directortest.Engine{})
	profile := write(t, "profile.json", `{
		"plugins": [{"type": "max-score-picker", "name": "pick"}],
		"schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": "pick"}]}],
		"admission": {"tenants": {"gold": {"weight": 2}}}}`)
	s := newSite(t)
	require.NoError(t, s.load("server "+addresses(fleet)+"\nprofile "+profile+"\ntenant {header.X-Tenant}\nmetrics /metrics"))
	req, err := http.NewRequest("POST", "http://"+s.addr+"/v1/chat/completions", strings.NewReader(string(directortest.Ask{}.Body())))
	require.NoError(t, err)
	req.Header.Set("X-Tenant", "gold")
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	_, page := s.get("/metrics")
	require.Contains(t, page, `fairness_id="gold"`)
}

func TestNothingIsLeft(t *testing.T) {
	fleet := servers(t, 2, directortest.Engine{})
	s := newSite(t)
	cycle := func() {
		for i := range 3 {
			require.NoError(t, s.load("server "+addresses(fleet[i%2:])))
			s.ask(directortest.Ask{Stream: true})
		}
		require.NoError(t, caddy.Stop())
	}
	cycle()
	settle := func() int {
		n := runtime.NumGoroutine()
		for calm := 0; calm < 10; calm++ {
			time.Sleep(10 * time.Millisecond)
			if now := runtime.NumGoroutine(); now < n {
				n, calm = now, 0
			}
		}
		return n
	}
	before := settle()
	for range 10 {
		cycle()
	}
	require.LessOrEqual(t, settle(), before+3, "goroutines")
}

// A session over a websocket passes both ways, and goes on over a reload.
func TestSession(t *testing.T) {
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, rw)
	}))
	defer echo.Close()
	s := newSite(t)
	block := "server " + echo.Listener.Addr().String()
	require.NoError(t, s.load(block))
	c, err := net.Dial("tcp", s.addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	fmt.Fprint(c, "GET /v1/realtime?model=m HTTP/1.1\r\nHost: "+s.addr+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	for _, line := range []string{"before\n", "after\n"} {
		fmt.Fprint(c, line)
		heard, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, line, heard)
		require.NoError(t, s.load(block+"\nname_endpoint"))
	}
}
