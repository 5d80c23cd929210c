// Record asks running vLLM servers everything that testdata keeps, and writes it down.
//
//	go run ./record -plain 127.0.0.1:8001 -adapters 127.0.0.1:8002 -limited 127.0.0.1:8003 -limit 18 -into testdata/vllm-0.32
//	go run ./record -prefill 127.0.0.1:8001 -decode 127.0.0.1:8002 -into testdata/vllm-0.32-nixl
//
// It puts the plain server to sleep for a moment and fills the limited one, so they should
// have nothing else to do.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/inferpick/inferpick/integration/engines/recording"
	"github.com/inferpick/inferpick/integration/engines/vllm"
)

const patience = 2 * time.Minute // for one answer

func main() {
	log.SetFlags(0)
	log.SetPrefix("record: ")
	plain := flag.String("plain", "", "host:port of a server without adapters and limit")
	adapters := flag.String("adapters", "", "host:port of one with the adapter")
	limited := flag.String("limited", "", "host:port of one with a queue limit")
	limit := flag.Int("limit", 0, "how many requests the limited one takes")
	prefill := flag.String("prefill", "", "instead: host:port of a server that hands over KV caches")
	decode := flag.String("decode", "", "and of one that takes them")
	into := flag.String("into", "", "folder to write to")
	flag.Parse()
	if err := os.MkdirAll(*into, 0o755); *into != "" && err != nil {
		log.Fatal(err)
	}
	if *prefill != "" && *decode != "" && *into != "" {
		r := recorder{into: *into}
		r.handedOver(*prefill, *decode)
		if err := errors.Join(r.failed...); err != nil {
			log.Fatal(err)
		}
		return
	}
	if *plain == "" || *adapters == "" || *limited == "" || *limit <= 0 || *into == "" {
		log.Fatal("all of the flags are needed, or -prefill, -decode and -into")
	}
	r := recorder{into: *into}
	r.answers(*plain)
	r.busy(*plain)
	r.asleep(*plain)
	r.adapters(*adapters)
	r.refused(*limited, *limit)
	if err := errors.Join(r.failed...); err != nil {
		log.Fatal(err)
	}
}

// recorder writes exchanges to a folder and remembers what failed.
type recorder struct {
	into   string
	failed []error
}

// one records one exchange.
func (r *recorder) one(name, address, method, path, body string) {
	x, err := recording.Record(name, address, recording.Request(method, path, body), patience)
	if err == nil {
		err = x.Write(r.into)
	}
	if err != nil {
		r.failed = append(r.failed, err)
		return
	}
	head, _, _ := strings.Cut(string(x.Response), "\r\n")
	fmt.Printf("%-28s %s, %d bytes\n", name, head, len(x.Response))
}

const (
	messages = `"messages":[{"role":"system","content":"You are brief."},{"role":"user","content":"What is a ledger?"}]`
	chat     = `{"model":"tiny","max_tokens":12,"ignore_eos":true,"temperature":0,` + messages
	complete = `{"model":"tiny","max_tokens":12,"ignore_eos":true,"temperature":0,"prompt":"A ledger is"`
	stream   = `,"stream":true}`
	usage    = `,"stream":true,"stream_options":{"include_usage":true}}`
	each     = `,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`
)

// answers are what a server says to one request at a time.
func (r *recorder) answers(address string) {
	long := strings.Repeat("a ", 8300) // a token each, of which 8192 fit
	for _, q := range []struct{ name, method, path, body string }{
		{"models", "GET", "/v1/models", ""},
		{"version", "GET", "/version", ""},
		{"health", "GET", "/health", ""},
		{"health-head", "HEAD", "/health", ""},
		{"ping-post", "POST", "/ping", ""},
		{"chat-options", "OPTIONS", "/v1/chat/completions", ""},
		{"chat-get", "GET", "/v1/chat/completions", ""},
		{"chat-head", "HEAD", "/v1/chat/completions", ""},
		{"not-found", "POST", "/v1/nothing", "{}"},
		{"metrics-idle", "GET", "/metrics", ""},

		{"chat", "POST", "/v1/chat/completions", chat + "}"},
		{"chat-again", "POST", "/v1/chat/completions", chat + "}"},
		{"chat-stream", "POST", "/v1/chat/completions", chat + stream},
		{"chat-stream-usage", "POST", "/v1/chat/completions", chat + usage},
		{"chat-stream-usage-each", "POST", "/v1/chat/completions", chat + each},
		{"chat-two-choices-stream", "POST", "/v1/chat/completions", strings.Replace(chat, `"temperature":0`, `"n":2,"seed":1`, 1) + usage},
		{"chat-logprobs", "POST", "/v1/chat/completions", chat + `,"logprobs":true,"top_logprobs":2}`},
		{"completion", "POST", "/v1/completions", complete + "}"},
		{"completion-stream", "POST", "/v1/completions", complete + stream},
		{"completion-stream-usage", "POST", "/v1/completions", complete + usage},
		{"responses", "POST", "/v1/responses", `{"model":"tiny","max_output_tokens":12,"temperature":0,"input":"What is a ledger?"}`},
		{"responses-stream", "POST", "/v1/responses", `{"model":"tiny","max_output_tokens":12,"temperature":0,"input":"What is a ledger?","stream":true}`},
		{"messages", "POST", "/v1/messages", `{"model":"tiny","max_tokens":12,"temperature":0,"messages":[{"role":"user","content":"What is a ledger?"}]}`},
		{"messages-stream", "POST", "/v1/messages", `{"model":"tiny","max_tokens":12,"temperature":0,"messages":[{"role":"user","content":"What is a ledger?"}],"stream":true}`},
		{"tokenize", "POST", "/tokenize", `{"model":"tiny","prompt":"What is a ledger?"}`},

		{"error-embeddings", "POST", "/v1/embeddings", `{"model":"tiny","input":"a ledger"}`},
		{"error-unknown-model", "POST", "/v1/chat/completions", strings.Replace(chat, "tiny", "nope", 1) + "}"},
		{"error-unknown-model-stream", "POST", "/v1/chat/completions", strings.Replace(chat, "tiny", "nope", 1) + stream},
		{"error-too-long", "POST", "/v1/completions", `{"model":"tiny","max_tokens":4,"prompt":"` + long + `"}`},
		{"error-too-long-stream", "POST", "/v1/completions", `{"model":"tiny","max_tokens":4,"prompt":"` + long + `"` + stream},
		{"error-wrong-type", "POST", "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":7}],"max_tokens":4}`},
		{"error-out-of-range", "POST", "/v1/chat/completions", strings.Replace(chat, `"temperature":0`, `"temperature":-3`, 1) + stream},
	} {
		r.one(q.name, address, q.method, q.path, q.body)
	}
}

// filled calls do while n long answers stream from a server, and waits for their ends.
func (r *recorder) filled(address string, n int, do func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	for i := range n {
		go func() {
			defer func() { ended <- struct{}{} }()
			body := fmt.Sprintf(`{"model":"tiny","max_tokens":400,"ignore_eos":true,"stream":true,"prompt":"%d %s"}`, i, strings.Repeat("fill ", 20))
			req, err := http.NewRequestWithContext(ctx, "POST", "http://"+address+"/v1/completions", strings.NewReader(body))
			if err != nil {
				return
			}
			req.Header.Set("Content-Type", "application/json")
			if resp, err := http.DefaultClient.Do(req); err == nil {
				<-ctx.Done()
				resp.Body.Close()
			}
		}()
	}
	time.Sleep(3 * time.Second)
	do()
	cancel()
	for range n {
		<-ended
	}
	time.Sleep(2 * time.Second) // for the server to see that they have gone
}

func (r *recorder) busy(address string) {
	r.filled(address, vllm.Places+5, func() { r.one("metrics-busy", address, "GET", "/metrics", "") })
}

func (r *recorder) asleep(address string) {
	ctx := context.Background()
	s := vllm.Server{Address: address}
	defer func() {
		if err := s.Wake(ctx); err != nil {
			r.failed = append(r.failed, err)
		}
	}()
	r.one("sleep", address, "POST", "/sleep?level=1", "")
	for range 100 {
		if awake, err := s.Awake(ctx); err == nil && !awake {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.one("is-sleeping", address, "GET", "/is_sleeping", "")
	r.one("health-asleep", address, "GET", "/health", "")
	r.one("metrics-asleep", address, "GET", "/metrics", "")
}

func (r *recorder) adapters(address string) {
	r.one("models-adapter", address, "GET", "/v1/models", "")
	r.one("chat-adapter", address, "POST", "/v1/chat/completions", strings.Replace(chat, "tiny", vllm.AdapterName, 1)+"}")
	r.one("metrics-adapter", address, "GET", "/metrics", "")
}

// refused are the answers of a server that is full. What comes while others are only on
// their way in passes a first look at the queue and not the second: then a stream has
// begun, and the refusal is an event.
func (r *recorder) refused(address string, limit int) {
	const input = `"model":"tiny","input":"What is a ledger?","max_output_tokens":12`
	const user = `"model":"tiny","messages":[{"role":"user","content":"What is a ledger?"}],"max_tokens":12`
	kinds := []struct{ name, path, body, text string }{ // text: what a stream with text has in it
		{"", "/v1/chat/completions", chat, `"choices"`},
		{"-completion", "/v1/completions", complete, `"choices"`},
		{"-responses", "/v1/responses", "{" + input, "output_text.delta"},
		{"-messages", "/v1/messages", "{" + user, "content_block_delta"},
	}
	r.filled(address, limit, func() {
		for _, k := range kinds {
			r.one("refused"+k.name, address, "POST", k.path, k.body+"}")
			r.one("refused"+k.name+"-stream", address, "POST", k.path, k.body+stream)
		}
	})
	for _, k := range kinds {
		r.refusedLate("refused"+k.name+"-late-stream", address, k.path, k.body+stream, k.text, limit)
	}
}

// refusedLate sends more streams at once than the server takes, and keeps the answer of
// one that was refused after it had begun: without text, and perhaps cut off.
func (r *recorder) refusedLate(name, address, path, body, text string, limit int) {
	answers := make(chan recording.Exchange)
	const more = 12
	for range limit + more {
		go func() {
			x, _ := recording.Record(name, address, recording.Request("POST", path, body), patience)
			answers <- x
		}()
	}
	kept := false
	for range limit + more {
		x := <-answers
		if kept || !bytes.HasPrefix(x.Response, []byte("HTTP/1.1 200 ")) || bytes.Contains(x.Response, []byte(text)) {
			continue
		}
		kept = true
		if err := x.Write(r.into); err != nil {
			r.failed = append(r.failed, err)
		}
		fmt.Printf("%-28s kept, %d bytes\n", name, len(x.Response))
	}
	if !kept {
		r.failed = append(r.failed, fmt.Errorf("%s: no stream was refused after it had begun", name))
	}
}
