package openai_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
)

// read returns a stream that has read an answer, in one piece and bytewise.
func readKept(t testing.TB, o openai.StreamOptions, body string) *openai.Stream {
	t.Helper()
	whole, bits := openai.NewStream(o), openai.NewStream(o)
	require.Equal(t, body, string(whole.Feed([]byte(body)))+string(whole.Close()))
	for i := range len(body) {
		bits.Feed([]byte{body[i]})
	}
	bits.Close()
	require.Equal(t, [...]any{whole.ResponseID(), whole.OtherIDs(), whole.Job(), whole.Err()},
		[...]any{bits.ResponseID(), bits.OtherIDs(), bits.Job(), bits.Err()})
	return whole
}

// TestKept: what is read of answers about things that servers keep, in the forms that OpenAI, SGLang and vLLM-Omni give them.
func TestKept(t *testing.T) {
	type job = openai.Job
	tests := []struct {
		name, body string
		id         string
		others     []string
		job        openai.Job
	}{
		{"a film is queued", `{"id":"video_gen_1","object":"video","status":"queued","progress":0,"created_at":100,"expires_at":null,"model":"m"}`,
			"video_gen_1", nil, job{State: openai.JobOpen, Created: 100}},
		{"it is done", `{"id":"video_1","object":"video","status":"completed","created_at":100,"completed_at":160.7,"expires_at":3700}`,
			"video_1", nil, job{openai.JobEnded, 3700, 100, 160}},
		{"it failed", `{"id":"video_1","object":"video","status":"failed","error":{"code":"500","message":"out of memory"}}`,
			"video_1", nil, job{State: openai.JobEnded}},
		{"a mesh", `{"id":"b-1","object":"mesh","status":"in_progress","url":null}`, "b-1", nil, job{State: openai.JobOpen}},
		{"a batch", `{"id":"batch_1","object":"batch","input_file_id":"file_in","status":"completed","output_file_id":"file_out","error_file_id":"file_err","errors":{"data":[]}}`,
			"batch_1", []string{"file_out", "file_err"}, job{State: openai.JobEnded}},
		{"a batch that begins", `{"id":"batch_1","status":"validating","output_file_id":null}`, "batch_1", nil, job{State: openai.JobOpen}},
		{"a file", `{"id":"file-\u0031","object":"file","bytes":12,"purpose":"batch","expires_at":99}`, "file-1", nil, job{Expires: 99}},
		{"pictures by address", `{"id":"7","created":1,"data":[{"url":"/v1/images/img_1/content","revised_prompt":"x"},{"url":"http://10.0.0.1:30000/v1/images/img%202/content?variant=a"},{"url":"https://elsewhere/a.png"}]}`,
			"7", []string{"img_1"}, job{}},
		{"pictures", `{"created":1,"data":[{"b64_json":"aGk="}]}`, "", nil, job{}},
		{"a list", `{"object":"list","id":"x","data":[{"id":"video_1","object":"video"}]}`, "", nil, job{}},
		{"it was deleted", `{"id":"file-1","object":"file","deleted":true}`, "", nil, job{}},
		{"the same of a film", `{"id":"video_1","object":"video.deleted"}`, "", nil, job{}},
		{"strange figures", `{"id":7,"status":{"a":1},"expires_at":"soon","created_at":-3,"completed_at":1e99,"output_file_id":[1],"data":[1,[{"url":"x"}],{"url":null}]}`, "", nil, job{}},
		{"a long id", `{"id":"` + strings.Repeat("x", 10_000) + `","object":"video","status":"queued"}`, "", nil, job{State: openai.JobOpen}},
		{"no JSON", `{"id":"video_1","object":"video"`, "", nil, job{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := readKept(t, openai.StreamOptions{API: openai.ImageGenerations, ContentType: "application/json", Kept: true}, tt.body)
			require.Equal(t, tt.id, s.ResponseID())
			require.Equal(t, tt.others, s.OtherIDs())
			require.Equal(t, tt.job, s.Job())
			require.NoError(t, s.Err())
		})
	}
}

// TestKeptOnlyIfAsked: answers of other APIs have ids that nobody asks for.
func TestKeptOnlyIfAsked(t *testing.T) {
	s := readKept(t, openai.StreamOptions{}, `{"id":"chatcmpl-1","object":"chat.completion","output_file_id":"f","status":"queued"}`)
	require.Empty(t, s.ResponseID())
	require.Empty(t, s.OtherIDs())
	require.Zero(t, s.Job())
	s = readKept(t, openai.StreamOptions{API: openai.Responses}, `{"id":"resp_1","object":"response","status":"queued","background":true}`)
	require.Equal(t, "resp_1", s.ResponseID())
	require.Equal(t, openai.Job{State: openai.JobOpen}, s.Job())
}

// TestKeptErrors: an answer that says nothing but that there was an error is one.
func TestKeptErrors(t *testing.T) {
	s := readKept(t, openai.StreamOptions{Kept: true}, `{"error":{"message":"no room","code":503}}`)
	require.Error(t, s.Err())
	s = readKept(t, openai.StreamOptions{Kept: true, ContentType: "application/json", ContentEncoding: "gzip"}, `{"id":"video_1","status":"queued"}`)
	require.Empty(t, s.ResponseID(), "what is compressed is not known")
	require.Zero(t, s.Job())
}

func TestKeptIDsAreBounded(t *testing.T) {
	var body struct {
		Data []map[string]string `json:"data"`
	}
	for range 1000 {
		body.Data = append(body.Data, map[string]string{"url": "/v1/images/x/content"})
	}
	text, err := json.Marshal(body)
	require.NoError(t, err)
	require.Len(t, readKept(t, openai.StreamOptions{Kept: true}, string(text)).OtherIDs(), 16)
}

func FuzzKept(f *testing.F) {
	f.Add(`{"id":"video_1","object":"video","status":"queued","expires_at":9}`)
	f.Add(`{"data":[{"url":"/v1/images/a/content"},{"b64_json":""}],"output_file_id":"x"}`)
	f.Fuzz(func(t *testing.T, body string) {
		s := readKept(t, openai.StreamOptions{Kept: true}, body)
		require.LessOrEqual(t, len(s.OtherIDs()), 16)
		for _, id := range append(s.OtherIDs(), s.ResponseID()) {
			require.LessOrEqual(t, len(id), 256)
		}
		if j := s.Job(); j.Expires < 0 || j.Created < 0 || j.Ended < 0 {
			t.Error(j)
		}
	})
}

func TestFileIn(t *testing.T) {
	for body, want := range map[string]string{
		`{"input_file_id":"file-1","endpoint":"/v1/chat/completions"}`:           "file-1",
		`{"input_file_id":"a","input_file_id":"b\u0063"}`:                        "bc",
		`{"prompt":"x","image_reference":{"file_id":"f"}}`:                       "f",
		`{"prompt":"x","input_reference":{"a":[{}],"file_id":"g"},"more":[1,2]}`: "g",
		`{"input_reference":"f","input_file_id":7}`:                              "",
		`{"input_file_id":null}`:                                                 "",
		`{"metadata":{"input_file_id":"x"}}`:                                     "",
		`{"input_file_id":"x"`:                                                   "", `["input_file_id"]`: "", ``: "", `--form`: "",
		`{"input_file_id":"` + strings.Repeat("x", 257) + `"}`: "",
	} {
		require.Equal(t, want, openai.FileIn([]byte(body)), body)
	}
}

func FuzzFileIn(f *testing.F) {
	f.Add(`{"input_file_id":"a","image_reference":{"file_id":"f"}}`)
	f.Fuzz(func(t *testing.T, body string) { require.LessOrEqual(t, len(openai.FileIn([]byte(body))), 256) })
}
