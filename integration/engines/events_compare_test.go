package engines_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/inferpick/inferpick/integration/engines/peers"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/stretchr/testify/require"
)

// The same requests before the same servers, whose caches are emptied each time: which part
// of the prompts do they find there? Caches have no room for all that is shared.
func TestEventsHitShare(t *testing.T) {
	all := publishing(t, 2)
	gateways := func(n int, profile func() scheduling.Profile, listen bool) func(t *testing.T) []string {
		return func(t *testing.T) (urls []string) {
			for range n {
				p := profile()
				if listen {
					urls = append(urls, listening(t, setup{profile: &p}, all).URL)
					continue
				}
				g := newGatewayWith(t, setup{profile: &p}, addresses(all)...)
				ready(t, g)
				urls = append(urls, g.URL)
			}
			return urls
		}
	}
	shares := map[string][]float64{}
	for _, seed := range []uint64{7, 8} {
		w := mix{tenants: 64, questions: 160, chats: 12, turns: 6, words: 500, seed: seed}.make()
		for _, tt := range []struct {
			name string
			urls func(t *testing.T) []string
		}{
			{"round robin", gateways(1, plugins.RoundRobinProfile, false)},
			{"classic", gateways(1, plugins.Classic, false)},
			{"default", gateways(1, plugins.Default, false)},
			{"default with events", gateways(1, plugins.Default, true)},
			{"two gateways", gateways(2, plugins.Default, false)},
			{"two gateways with events", gateways(2, plugins.Default, true)},
			{"router of SGLang", func(t *testing.T) []string { return []string{"http://" + router(t, all)} }},
		} {
			t.Run(fmt.Sprintf("seed %d, %s", seed, tt.name), func(t *testing.T) {
				emptied(t, all)
				urls := tt.urls(t)
				began := time.Now()
				answers := w.run("hits", 2*len(all), urls...)
				allGood(t, answers)
				cached, prompts := 0, 0
				for _, a := range answers {
					cached, prompts = cached+a.cached, prompts+a.prompt
				}
				share := float64(cached) / float64(prompts)
				shares[tt.name] = append(shares[tt.name], share)
				t.Logf("%.3f of %d tokens were cached; %v; %s", share, prompts, count(answers), time.Since(began).Round(time.Second))
			})
		}
	}
	for name, byseed := range shares {
		t.Logf("%s: %.3f of the tokens were cached, by seed", name, byseed)
	}
	for i := range shares["default with events"] {
		if rr := shares["round robin"]; i < len(rr) {
			require.Greater(t, shares["default with events"][i], rr[i])
		}
	}
}

// router starts SGLang's router before servers, until the end of the test.
func router(t *testing.T, servers []*vllm.Server) (address string) {
	t.Helper()
	in, err := peers.Find(os.Getenv)
	if errors.Is(err, peers.ErrNone) {
		t.Skip(err)
	}
	require.NoError(t, err)
	log := filepath.Join(t.TempDir(), "router.log")
	address, p, err := in.Router(log, "cache_aware", addresses(servers)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	if !answers(t, address, 2*time.Minute) {
		text, _ := os.ReadFile(log)
		t.Fatalf("%s", text)
	}
	return address
}

// answers waits until a good question gets a good answer.
func answers(t *testing.T, address string, most time.Duration) bool {
	t.Helper()
	return within(t, most, address+" to answer", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		a := ask(ctx, "http://"+address, question{prompt: "ready?"})
		return a.err == nil && a.status == http.StatusOK
	})
}
