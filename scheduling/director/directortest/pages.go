package directortest

import (
	"fmt"
	"strings"
	"time"
)

// VLLM is a page in the format of vLLM.
func VLLM(x *Exchange, running, waiting int) {
	x.Answer(page(readings{fmt.Sprint(running), fmt.Sprint(waiting), fmt.Sprint(min(1, float64(running)/64)), ""}))
}

// readings are the values of a page, and the text after each of them.
type readings struct{ running, waiting, usage, date string }

const pageType = "Content-Type: text/plain; version=0.0.4; charset=utf-8"

func page(r readings) Answer {
	label := `{engine="0",model_name="` + DefaultModel + `"} `
	return Answer{Header: []string{pageType}, Parts: [][]byte{[]byte(
		"# HELP vllm:num_requests_running Number of requests in model execution batches.\n# TYPE vllm:num_requests_running gauge\n" +
			"vllm:num_requests_running" + label + r.running + r.date + "\n" +
			"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting" + label + r.waiting + r.date + "\n" +
			"# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc" + label + r.usage + r.date + "\n" +
			"# TYPE vllm:gpu_cache_usage_perc gauge\nvllm:gpu_cache_usage_perc" + label + r.usage + r.date + "\n" +
			"# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"4096\"} 1\n")}}
}

// Lie is a page of metrics that is false or unreadable.
type Lie struct {
	Name string
	Page Page
	Slow bool // takes long or much memory
}

// Lies returns those that Run uses.
func Lies() []Lie {
	values := func(v string) Page {
		return func(x *Exchange, _, _ int) { x.Answer(page(readings{v, v, v, ""})) }
	}
	whole := func(a Answer) Page { return func(x *Exchange, _, _ int) { x.Answer(a) } }
	line := []byte("vllm:num_requests_waiting{model_name=\"" + DefaultModel + "\"} 0\n")
	return []Lie{
		{Name: "minus_one", Page: values("-1")},
		{Name: "not_a_number", Page: values("NaN")},
		{Name: "infinity", Page: values("+Inf")},
		{Name: "minus_infinity", Page: values("-Inf")},
		{Name: "1e308", Page: values("1e308")},
		{Name: "no_numbers", Page: values("many")},
		{Name: "date_in_the_future", Page: func(x *Exchange, _, _ int) {
			x.Answer(page(readings{"0", "0", "0", fmt.Sprintf(" %d", time.Now().Add(time.Hour).UnixMilli())}))
		}},
		{Name: "date_without_sense", Page: func(x *Exchange, _, _ int) { x.Answer(page(readings{"0", "0", "0", " 9223372036854775807"})) }},
		{Name: "always_idle", Page: func(x *Exchange, _, _ int) { x.Answer(page(readings{"0", "0", "0", ""})) }},
		{Name: "empty", Page: whole(Answer{Header: []string{pageType}})},
		{Name: "cut_off", Page: func(x *Exchange, _, _ int) { x.answerTo(page(readings{"0", "0", "0", ""}), AtMiddle); x.Close() }},
		{Name: "html", Page: whole(Answer{Header: []string{"Content-Type: text/html"}, Parts: [][]byte{[]byte("<html><body>Sign in</body></html>")}})},
		{Name: "json", Page: whole(JSON(200, `{"vllm:num_requests_waiting":0}`))},
		{Name: "status_500", Page: whole(JSON(500, `{"error":"no"}`))},
		{Name: "hangs", Page: func(x *Exchange, _, _ int) { x.Hang() }},
		{Name: "closed", Page: func(x *Exchange, _, _ int) { x.Close() }},
		{Name: "garbage", Page: func(x *Exchange, _, _ int) { x.Write(garbage); x.Close() }},
		{Name: "without_an_end", Page: func(x *Exchange, _, _ int) { endless(x, line, time.Millisecond) }},
		{Name: "50_mb", Slow: true, Page: func(x *Exchange, _, _ int) {
			x.Answer(Answer{Header: []string{pageType}, Framing: UntilClose, Parts: [][]byte{[]byte(strings.Repeat(string(line), 50<<20/len(line)))}})
		}},
		{Name: "line_of_1_mb", Page: whole(Answer{Header: []string{pageType}, Parts: [][]byte{[]byte("vllm:num_requests_waiting{model_name=\"" + strings.Repeat("x", 1<<20) + "\"} 0\n")}})},
	}
}

// endless sends lines until the client leaves.
func endless(x *Exchange, line []byte, each time.Duration) {
	x.answerTo(Answer{Header: []string{pageType}, Framing: UntilClose}, AtHead)
	for x.Write(line) && x.Wait(each) {
		continue
	}
	x.Close()
}
