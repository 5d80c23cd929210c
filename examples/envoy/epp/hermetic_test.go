package epp_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"

	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
	"github.com/inferpick/inferpick/types"
)

// hermetic is a table of testdata. What all of its cases have in common, and what differs
// in all of them:
//
//   - Pod i is at 192.168.1.(i+1):8000, with the figures that it reports.
//   - Envoy always sends :method and :path, and clients of gRPC a content type, which the
//     tables have not: POST of /v1/completions, GET of /health where there is no body.
//   - Only headers that change are set: theirs repeats the request's, and adds
//     x-went-into-resp-headers to responses. Bodies are given back with the right length,
//     in as many parts as they came in.
//   - The route cache is not cleared: a host is chosen, not a route.
//   - Errors have a body of the API's own form, and the same status.
type hermetic struct {
	Version       string `json:"version"`
	Configuration string `json:"configuration"` // manifests
	Picker        string `json:"picker"`        // EndpointPickerConfig
	GRPCPicker    string `json:"grpcPicker"`    // of the cases of gRPC
	Cases         []hermeticCase
}

type hermeticCase struct {
	Name     string            `json:"name"`
	GRPC     bool              `json:"grpc"`   // it is one of gRPC, though no request says so
	Picker   string            `json:"picker"` // in place of the table's
	Pods     []hermeticPod     `json:"pods"`
	Request  *hermeticRequest  `json:"request"`
	Response *hermeticResponse `json:"response"`
	Want     hermeticWant      `json:"want"`
	Metrics  hermeticMetrics   `json:"metrics"`
	// Differs says what is otherwise here, and why that is meant.
	Differs struct {
		What []string `json:"what"`
		Here int      `json:"here"` // the status; 200: it is routed
		Why  string   `json:"why"`
	} `json:"differs"`
	// Pending names those whose work it waits for.
	Pending string `json:"pending"`
}

type hermeticPod struct {
	Waiting  float64  `json:"waiting"`
	KV       float64  `json:"kv"`
	Adapters []string `json:"adapters"`
}

type hermeticRequest struct {
	Headers   map[string]string `json:"headers"`
	Objective string            `json:"objective"`
	Rewrite   string            `json:"rewrite"`
	Subset    []string          `json:"subset"`
	Body      []string          `json:"body"` // its parts; none: no body
	GRPC      *struct {
		Method string  `json:"method"` // of vLLM's engine
		Path   string  `json:"path"`   // in place of a method
		Text   string  `json:"text"`
		Stream bool    `json:"stream"`
		Raw    *string `json:"raw"` // in place of a message
		Parts  int     `json:"parts"`
	} `json:"grpc"`
}

type hermeticResponse struct {
	Headers map[string]string `json:"headers"`
	Body    []string          `json:"body"`
	GRPC    []struct {
		TokenIDs         []uint64 `json:"tokenIDs"` // a chunk
		PromptTokens     uint64   `json:"promptTokens"`
		CompletionTokens uint64   `json:"completionTokens"` // the end
	} `json:"grpc"`
	Parts    int  `json:"parts"` // of each message
	Trailers bool `json:"trailers"`
}

type hermeticWant struct {
	Pod          *int   `json:"pod"`  // where it goes
	Body         string `json:"body"` // with which body
	SameBody     bool   `json:"sameBody"`
	Status       int    `json:"status"`   // of the refusal
	Response     string `json:"response"` // body of the response
	SameResponse bool   `json:"sameResponse"`
}

type hermeticMetrics struct {
	Requests *struct {
		Model    string  `json:"model"`
		Target   string  `json:"target"`
		Priority *string `json:"priority"`
	} `json:"requests"` // of which one is counted
	Ready        int     `json:"ready"`
	InputTokens  float64 `json:"inputTokens"`
	OutputTokens float64 `json:"outputTokens"`
}

// TestHermeticTables plays the tables of the Inference Extension's hermetic tests.
func TestHermeticTables(t *testing.T) {
	t.Parallel()
	for file, cases := range map[string][2]int{"gie-0.3.yaml": {11, 0}, "gie-1.5.yaml": {19, 15}} {
		data, err := os.ReadFile("testdata/" + file)
		require.NoError(t, err)
		var table hermetic
		require.NoError(t, yaml.UnmarshalStrict(data, &table), file)
		got := [2]int{}
		for _, c := range table.Cases {
			if c.ofGRPC() {
				got[1]++
			} else {
				got[0]++
			}
			t.Run(table.Version+"/"+c.Name, func(t *testing.T) { c.run(t, &table) })
		}
		require.Equal(t, cases, got, "cases for JSON and for gRPC in %s", file)
	}
}

func (c *hermeticCase) ofGRPC() bool { return c.GRPC || c.Request != nil && c.Request.GRPC != nil }

func (c *hermeticCase) run(t *testing.T, table *hermetic) {
	t.Parallel()
	for _, what := range c.Differs.What {
		require.Contains(t, []string{"status", "inputTokens", "outputTokens"}, what)
		require.NotEmpty(t, c.Differs.Why)
	}
	err := c.play(t, table)
	switch {
	case c.Pending != "" && err != nil:
		t.Skipf("PENDING, until %s is there: %.200s", c.Pending, err)
	case c.Pending != "":
		t.Errorf("it is as it is to be: remove its line pending: %s", c.Pending)
	case err != nil:
		t.Error(err)
	}
}

// play returns what is not as it is to be.
func (c *hermeticCase) play(t *testing.T, table *hermetic) error {
	picker := table.Picker
	if c.ofGRPC() {
		picker = table.GRPCPicker
	}
	if c.Picker != "" {
		picker = c.Picker
	}
	text := table.Configuration + "\n---\n" + picker
	var addresses []string
	for i := range c.Pods {
		addresses = append(addresses, fmt.Sprintf("192.168.1.%d:8000", i+1))
	}
	if len(addresses) > 0 {
		text += "\n" + endpointsYAML("pool", addresses...)
	}
	r, err := tryStart(t, text, nil)
	if err != nil {
		return err
	}
	for _, ep := range r.Store().Snapshot().Pools()[0].Endpoints() {
		p := c.Pods[ep.ID[0]-'a']
		r.Store().UpdateMetrics(ep.Load, types.Metrics{
			UpdatedAt: time.Now(), Waiting: types.Known(p.Waiting), KVUsage: types.Known(p.KV),
			MaxAdapters: types.Known(0), RunningAdapters: p.Adapters, // as many fit there as in theirs
		})
	}
	messages, sent := c.messages()
	got, err := play(t, r.client(), messages)
	if err != nil {
		return err
	}
	if err := c.compare(got, sent); err != nil {
		return fmt.Errorf("%w\n%+v", err, got)
	}
	return c.compareMetrics(r, table.Version)
}

// sent is what was sent, in one piece.
type sent struct{ body, response string }

// messages are those that Envoy sends.
func (c *hermeticCase) messages() (all []*extprocv3.ProcessingRequest, s sent) {
	if q := c.Request; q != nil {
		parts := q.Body
		if q.GRPC != nil {
			parts = q.message()
		}
		all = append(all, q.head(len(parts) == 0))
		for i, part := range parts {
			m := envoyside.RequestBody(part, i == len(parts)-1)
			m.MetadataContext = q.metadata()
			all, s.body = append(all, m), s.body+part
		}
	}
	if a := c.Response; a != nil {
		pairs := []string{":status", "200"}
		for name, value := range a.Headers {
			pairs = append(pairs, name, value)
		}
		all = append(all, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
			ResponseHeaders: &extprocv3.HttpHeaders{Headers: envoyside.HeaderMap(pairs...)},
		}})
		parts := a.Body
		for _, m := range a.GRPC {
			parts = append(parts, split(frame(m.TokenIDs, m.PromptTokens, m.CompletionTokens), max(a.Parts, 1))...)
		}
		for i, part := range parts {
			all, s.response = append(all, envoyside.ResponseBody(part, !a.Trailers && i == len(parts)-1)), s.response+part
		}
		if a.Trailers {
			all = append(all, envoyside.ResponseTrailers())
		}
	}
	return all, s
}

func (q *hermeticRequest) head(end bool) *extprocv3.ProcessingRequest {
	method, path, kind := "POST", "/v1/completions", "application/json"
	switch {
	case q.GRPC != nil && q.GRPC.Path != "":
		path, kind = q.GRPC.Path, "application/grpc"
	case q.GRPC != nil:
		path, kind = "/vllm.grpc.engine.VllmEngine/"+q.GRPC.Method, "application/grpc"
	case end:
		method, path = "GET", "/health"
	}
	pairs := []string{":method", method, ":path", path, ":authority", "llm", ":scheme", "http", "hi", "mom", "x-request-id", "test-request-id"}
	for name, value := range q.Headers {
		pairs = append(pairs, name, value)
	}
	if q.Headers["content-type"] == "" {
		pairs = append(pairs, "content-type", kind)
	}
	if q.Objective != "" {
		pairs = append(pairs, "x-gateway-inference-objective", q.Objective)
	}
	if q.Rewrite != "" {
		pairs = append(pairs, "x-gateway-model-name-rewrite", q.Rewrite)
	}
	return &extprocv3.ProcessingRequest{
		Request: &extprocv3.ProcessingRequest_RequestHeaders{
			RequestHeaders: &extprocv3.HttpHeaders{Headers: envoyside.HeaderMap(pairs...), EndOfStream: end},
		},
		MetadataContext: q.metadata(),
	}
}

func (q *hermeticRequest) metadata() *corev3.Metadata {
	if q.Subset == nil {
		return nil
	}
	var list structpb.ListValue
	for _, a := range q.Subset {
		list.Values = append(list.Values, structpb.NewStringValue(a))
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.lb.subset_hint": {Fields: map[string]*structpb.Value{
		"x-gateway-destination-endpoint-subset": structpb.NewListValue(&list),
	}}}}
}

// message returns the parts of a request's message.
func (q *hermeticRequest) message() []string {
	g := q.GRPC
	if g.Raw != nil {
		return []string{*g.Raw}
	}
	var m []byte
	switch g.Method {
	case "Generate":
		m = protowire.AppendString(protowire.AppendTag(m, 3, protowire.BytesType), g.Text)
		if g.Stream {
			m = protowire.AppendVarint(protowire.AppendTag(m, 5, protowire.VarintType), 1)
		}
	case "Embed":
		tokenized := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), g.Text)
		m = protowire.AppendBytes(protowire.AppendTag(m, 2, protowire.BytesType), tokenized)
	}
	return split(framed(m), max(g.Parts, 1))
}

// frame is a message of a response: a chunk with tokens, or the end with how many there
// were.
func frame(ids []uint64, prompt, completion uint64) string {
	var inner, m []byte
	number := protowire.Number(2)
	if len(ids) > 0 {
		number = 1
		var packed []byte
		for _, id := range ids {
			packed = protowire.AppendVarint(packed, id)
		}
		inner = protowire.AppendBytes(protowire.AppendTag(inner, 1, protowire.BytesType), packed)
	} else {
		inner = protowire.AppendVarint(protowire.AppendTag(inner, 3, protowire.VarintType), prompt)
		inner = protowire.AppendVarint(protowire.AppendTag(inner, 4, protowire.VarintType), completion)
	}
	m = protowire.AppendBytes(protowire.AppendTag(m, number, protowire.BytesType), inner)
	return framed(m)
}

// framed puts the head of gRPC before a message.
func framed(m []byte) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...))
}

func split(s string, parts int) (all []string) {
	for ; parts > 1; parts-- {
		n := len(s) / parts
		all, s = append(all, s[:n]), s[n:]
	}
	return append(all, s)
}

// answered is what the picker says to all messages of a case.
type answered struct {
	Destinations   []string // by the header
	Metadata       string   // the destination by metadata
	Length         string   // Content-Length as it is set
	Body, Response string
	ResponseHead   bool
	Status         int
}

// play sends messages and reads until there is no more to come.
func play(t *testing.T, c extprocv3.ExternalProcessorClient, messages []*extprocv3.ProcessingRequest) (*answered, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := c.Process(ctx)
	if err != nil {
		return nil, err
	}
	onlyRequest := !slices.ContainsFunc(messages, func(m *extprocv3.ProcessingRequest) bool { return m.GetResponseHeaders() != nil })
	noBody := !slices.ContainsFunc(messages, func(m *extprocv3.ProcessingRequest) bool { return m.GetRequestBody() != nil })
	go func() {
		for _, m := range messages {
			if stream.Send(m) != nil {
				return // Recv says why
			}
		}
		if !onlyRequest {
			stream.CloseSend()
		}
	}()
	a := new(answered)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return a, err
		}
		last := a.add(m)
		if a.Status != 0 || onlyRequest && (last || noBody) {
			return a, nil
		}
	}
}

// add takes in a message, and reports whether the request's body ends with it.
func (a *answered) add(m *extprocv3.ProcessingResponse) (last bool) {
	switch r := m.Response.(type) {
	case *extprocv3.ProcessingResponse_ImmediateResponse:
		a.Status = int(r.ImmediateResponse.GetStatus().GetCode())
	case *extprocv3.ProcessingResponse_RequestHeaders:
		for _, h := range r.RequestHeaders.GetResponse().GetHeaderMutation().GetSetHeaders() {
			switch h.Header.Key {
			case "x-gateway-destination-endpoint":
				a.Destinations = strings.Split(string(h.Header.RawValue), ",")
			case "content-length":
				a.Length = string(h.Header.RawValue)
			}
		}
		a.Metadata = m.GetDynamicMetadata().GetFields()["envoy.lb"].GetStructValue().GetFields()["x-gateway-destination-endpoint"].GetStringValue()
	case *extprocv3.ProcessingResponse_RequestBody:
		s := r.RequestBody.GetResponse().GetBodyMutation().GetStreamedResponse()
		a.Body += string(s.GetBody())
		return s.GetEndOfStream()
	case *extprocv3.ProcessingResponse_ResponseHeaders:
		a.ResponseHead = true
	case *extprocv3.ProcessingResponse_ResponseBody:
		a.Response += string(r.ResponseBody.GetResponse().GetBodyMutation().GetStreamedResponse().GetBody())
	}
	return false
}

func (c *hermeticCase) compare(got *answered, s sent) error {
	want := c.Want
	if slices.Contains(c.Differs.What, "status") {
		if c.Differs.Here == want.Status {
			return errors.New("it does not differ in status")
		}
		if want.Status = c.Differs.Here; want.Status == 200 {
			want.Status = 0 // it is routed
		}
	}
	if got.Status != want.Status {
		return fmt.Errorf("status %d, want %d", got.Status, want.Status)
	}
	if want.Pod != nil {
		address := fmt.Sprintf("192.168.1.%d:8000", *want.Pod+1)
		if len(got.Destinations) == 0 || got.Destinations[0] != address || got.Metadata != strings.Join(got.Destinations, ",") {
			return fmt.Errorf("it goes to %q, by metadata %q, want %s", got.Destinations, got.Metadata, address)
		}
		body := want.Body
		if want.SameBody {
			body = s.body
		}
		if got.Body != body || body != "" && got.Length != strconv.Itoa(len(body)) {
			return fmt.Errorf("the body is %q of length %s, want %q", got.Body, got.Length, body)
		}
	}
	if c.Response != nil {
		response := want.Response
		if want.SameResponse {
			response = s.response
		}
		if !got.ResponseHead || got.Response != response {
			return fmt.Errorf("the response is %q, want %q", got.Response, response)
		}
	}
	return nil
}

// compareMetrics waits for what is counted when a stream ends.
func (c *hermeticCase) compareMetrics(r *running, version string) (err error) {
	prefix := map[string]string{"0.3": "inference_model_", "1.5": "inference_objective_"}[version]
	type figure struct {
		name   string
		labels []string
		want   float64
		none   bool // nothing is to be there
	}
	var figures []figure
	if q := c.Metrics.Requests; q != nil {
		labels := []string{fmt.Sprintf("model_name=%q", q.Model), fmt.Sprintf("target_model_name=%q", q.Target)}
		if q.Priority != nil {
			labels = append(labels, fmt.Sprintf("priority=%q", *q.Priority))
		}
		figures = append(figures, figure{name: prefix + "request_total", labels: labels, want: 1})
	}
	if n := c.Metrics.Ready; n > 0 {
		figures = append(figures, figure{name: "inference_pool_ready_pods", labels: []string{`name="pool"`}, want: float64(n)})
	}
	for what, n := range map[string]float64{"inputTokens": c.Metrics.InputTokens, "outputTokens": c.Metrics.OutputTokens} {
		if n > 0 {
			name := map[string]string{"inputTokens": "input_tokens_sum", "outputTokens": "output_tokens_sum"}[what]
			figures = append(figures, figure{name: prefix + name, want: n, none: slices.Contains(c.Differs.What, what)})
		}
	}
	for deadline := time.Now().Add(patience / 2); ; time.Sleep(5 * time.Millisecond) {
		page := r.metrics()
		err = nil
		for _, f := range figures {
			if got, ok := series(page, f.name, f.labels...); f.none && ok || !f.none && got != f.want {
				err = fmt.Errorf("%s%v is %v, want %v", f.name, f.labels, got, f.want)
			}
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
