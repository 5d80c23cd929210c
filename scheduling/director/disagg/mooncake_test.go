package disagg_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// bootstrap is the bootstrap port of prefill engines.
type bootstrap struct {
	asked atomic.Int64
	id    string
}

func (b *bootstrap) query(context.Context, string) ([]byte, error) {
	return fmt.Appendf(nil, `{"0":{"engine_id":%q}}`, fmt.Sprint(b.id, b.asked.Add(1))), nil
}

func chat() disagg.Request { return request(openai.ChatCompletions, `{}`) }

func engineOf(t *testing.T, p disagg.Protocol, r disagg.Request) (id string, h disagg.Handover) {
	t.Helper()
	h = begin(t, p, r)
	d, err := h.Decode(nil)
	require.NoError(t, err)
	var body struct {
		Params struct {
			Engine string `json:"remote_engine_id"`
		} `json:"kv_transfer_params"`
	}
	unmarshal(t, d.Body, &body)
	return body.Params.Engine, h
}

func TestEnginesAreRemembered(t *testing.T) {
	var b bootstrap
	now := time.Unix(0, 0)
	p := protocol(t, "mooncake", disagg.Options{Query: b.query, Now: func() time.Time { return now }})
	id, first := engineOf(t, p, chat())
	require.Equal(t, "1", id)
	now = now.Add(59 * time.Second)
	id, _ = engineOf(t, p, chat())
	require.Equal(t, "1", id)

	now = now.Add(time.Second)
	id, second := engineOf(t, p, chat())
	require.Equal(t, "2", id, "after a minute")

	// A leg that fails makes it ask again; one that was made by what has been forgotten does not.
	first.Abort()
	id, _ = engineOf(t, p, chat())
	require.Equal(t, "2", id)
	second.Abort()
	id, _ = engineOf(t, p, chat())
	require.Equal(t, "3", id)
}

func TestEnginesAreBounded(t *testing.T) {
	var b bootstrap
	now := time.Unix(0, 0)
	p := protocol(t, "mooncake", disagg.Options{Query: b.query, MaxEngines: 2, Now: func() time.Time { now = now.Add(time.Millisecond); return now }})
	at := func(host string) string {
		r := chat()
		r.Prefill = types.NewEndpoint(host, host+":80")
		id, _ := engineOf(t, p, r)
		return id
	}
	require.Equal(t, []string{"1", "2", "1", "3", "2", "3", "4"}, []string{at("a"), at("b"), at("a"), at("c"), at("b"), at("c"), at("a")})
}

// All who want to know at the same time ask once; if who asks goes away, another does.
func TestEnginesAreAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		p := protocol(t, "mooncake", disagg.Options{Query: func(ctx context.Context, url string) ([]byte, error) {
			asked.Add(1)
			if url != "http://10.0.0.7:8998/query" {
				return nil, errors.New(url)
			}
			select {
			case <-time.After(time.Second):
				return []byte(`{"0":{"engine_id":"e"}}`), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
		leaving, leave := context.WithCancel(context.Background())
		results := make(chan error, 10)
		begin := func(ctx context.Context) {
			_, err := p.Begin(ctx, chat())
			results <- err
		}
		go begin(leaving)
		synctest.Wait()
		impatient, stop := context.WithTimeout(context.Background(), time.Millisecond)
		defer stop()
		go begin(impatient)
		for range 5 {
			go begin(context.Background())
		}
		require.ErrorIs(t, <-results, context.DeadlineExceeded)
		leave()
		require.ErrorIs(t, <-results, context.Canceled)
		for range 5 {
			require.NoError(t, <-results)
		}
		require.EqualValues(t, 2, asked.Load())
	})
}

// An engine that does not answer is to blame, for 5 seconds at most, and is asked again.
func TestEnginesThatDoNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer, fail := "", error(nil)
		silent := true
		p := protocol(t, "mooncake", disagg.Options{Query: func(ctx context.Context, _ string) ([]byte, error) {
			if silent {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []byte(answer), fail
		}, MaxParams: 100})
		began := time.Now()
		_, err := p.Begin(context.Background(), chat())
		require.ErrorIs(t, err, disagg.ErrPrefill)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, time.Since(began))

		silent, fail = false, errors.New("refused")
		_, err = p.Begin(context.Background(), chat())
		require.ErrorIs(t, err, disagg.ErrPrefill)
		require.ErrorContains(t, err, "http://10.0.0.7:8998/query: refused")
		fail = nil
		for in, want := range map[string]string{
			``: "unexpected end", `[]`: "expected an object", `{}`: "names no engine_id: {}",
			`{"0":{"engine_id":""},"-1":{"engine_id":"x"},"1":3}`:     "names no engine_id",
			`{"0":{"engine_id":"` + string(make([]byte, 100)) + `"}}`: "answered with 122 bytes; the limit is 100",
		} {
			answer = in
			_, err := p.Begin(context.Background(), chat())
			require.ErrorIs(t, err, disagg.ErrPrefill, in)
			require.ErrorContains(t, err, want, in)
		}
		answer = `{"0":{"engine_id":"e"}}`
		_, err = p.Begin(context.Background(), chat())
		require.NoError(t, err)
	})
}

// A query that panics leaves nobody waiting.
func TestQueryPanics(t *testing.T) {
	first := true
	p := protocol(t, "mooncake", disagg.Options{Query: func(context.Context, string) ([]byte, error) {
		if first {
			first = false
			panic("x")
		}
		return []byte(`{"0":{"engine_id":"e"}}`), nil
	}})
	require.PanicsWithValue(t, "x", func() { _, _ = p.Begin(context.Background(), chat()) })
	begin(t, p, chat())
}

// Of several ranks, each gets its share.
func TestRanksAreSpread(t *testing.T) {
	p := protocol(t, "mooncake", disagg.Options{Query: func(context.Context, string) ([]byte, error) {
		return []byte(`{"1":{"engine_id":"b"},"0":{"engine_id":"a"}}`), nil
	}})
	seen := map[string]int{}
	for range 200 {
		id, h := engineOf(t, p, chat())
		seen[id+h.Prefill().Header["X-Data-Parallel-Rank"]]++
	}
	require.Len(t, seen, 2)
	require.Greater(t, seen["a0"], 50)
	require.Greater(t, seen["b1"], 50)
}
