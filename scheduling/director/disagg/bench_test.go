package disagg_test

import (
	"context"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
)

// BenchmarkHandover makes both legs of a request of 32 KiB. Compare with
// go test -bench Handover -count 10 and benchstat.
func BenchmarkHandover(b *testing.B) {
	body := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("hello ", 32<<10/6) + `"}],"stream":true,"max_tokens":100}`
	for _, name := range disagg.Names() {
		b.Run("protocol="+name, func(b *testing.B) {
			p := protocol(b, name, options())
			r := request(openai.ChatCompletions, body)
			answer := []byte(answerNIXL)
			if name == "trtllm" {
				answer = []byte(`{"choices":[{"finish_reason":"length","disaggregated_params":{"ctx_request_id":99}}],"prompt_token_ids":[4, 5]}`)
			}
			b.ReportAllocs()
			for b.Loop() {
				h, err := p.Begin(context.Background(), r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := h.Decode(answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("reserved", func(b *testing.B) {
		plain := []byte(body)
		b.ReportAllocs()
		for b.Loop() {
			_, _ = disagg.Reserved(openai.ChatCompletions, plain)
		}
	})
}
