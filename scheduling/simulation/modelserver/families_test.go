package modelserver_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

func gray(t testing.TB, width, height int) string {
	t.Helper()
	var buf bytes.Buffer
	require.NoError(t, png.Encode(&buf, image.NewGray(image.Rect(0, 0, width, height))))
	return buf.String()
}

// wav returns silence.
func wav(t testing.TB, seconds float64) string {
	t.Helper()
	const rate = 8000
	var buf bytes.Buffer
	data := make([]byte, int(seconds*rate))
	for _, field := range []any{
		[]byte("RIFF"), uint32(36 + len(data)), []byte("WAVEfmt "), uint32(16), uint16(1), uint16(1), uint32(rate), uint32(rate), uint16(1), uint16(8),
		[]byte("data"), uint32(len(data)), data,
	} {
		require.NoError(t, binary.Write(&buf, binary.LittleEndian, field))
	}
	return buf.String()
}

// upload posts a form: names and texts in turn; a name with @ before it is that of a file.
func upload(t testing.TB, c *http.Client, url string, fields ...string) (int, string) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i < len(fields); i += 2 {
		name, isFile := strings.CutPrefix(fields[i], "@")
		to, err := form.CreateFormField(name)
		if isFile {
			to, err = form.CreateFormFile(name, "a.file")
		}
		require.NoError(t, err)
		_, err = io.WriteString(to, fields[i+1])
		require.NoError(t, err)
	}
	require.NoError(t, form.Close())
	resp, err := c.Post(url, form.FormDataContentType(), &body)
	require.NoError(t, err)
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(reply)
}

// fetch sends a request without a body.
func fetch(t testing.TB, c *http.Client, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// Every API answers, or says what is wrong.
func TestAPIs(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	picture := base64.StdEncoding.EncodeToString([]byte(gray(t, 320, 64)))
	for _, tt := range []struct {
		path, body string
		status     int
		say        string
	}{
		{"/v1/chat/completions", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[
			{"type":"image_url","image_url":{"url":"data:image/png;base64,` + picture + `"}}]}]}`, 200, `"multimodal_tokens":{"image":20}`},
		{"/v1/chat/completions", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[
			{"type":"input_audio","input_audio":{"format":"wav","data":"` + base64.StdEncoding.EncodeToString([]byte(wav(t, 2))) + `"}}]}]}`, 200, `"audio_tokens":50`},
		{"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`, 400, "picture"},
		{"/v1/messages", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[
			{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + picture + `"}}]}]}`, 200, `"input_tokens":22`},
		{"/rerank", `{"model":"m","query":"the wide sea","documents":["bread","the sea is wide","a sea"],"top_n":2}`, 200, `"results":[{"index":1,"document":{"text":"the sea is wide"}`},
		{"/v2/rerank", `{"model":"m","query":"sea","documents":[{"text":"sea"}],"return_documents":false}`, 200, `"search_units":1`},
		{"/v1/rerank", `{"model":"m","query":"sea"}`, 400, "documents"},
		{"/score", `{"model":"m","text_1":"abcd","text_2":["abcd","efgh"]}`, 200, `"prompt_tokens":4`},
		{"/score", `{"model":"m","queries":["abcd","efgh"],"documents":["abcd","efgh"]}`, 200, `"index":1`},
		{"/v1/score", `{"model":"m","text_1":["a","b"],"text_2":["a","b","c"]}`, 400, "text_1"},
		{"/classify", `{"model":"m","input":["a","b"]}`, 200, `"num_classes":2`},
		{"/pooling", `{"model":"m","input":"a"}`, 200, `"object":"pooling"`},
		{"/v1/moderations", `{"input":[{"type":"text","text":"a"}]}`, 200, `"flagged":false`},
		{"/v1/moderations", `{}`, 400, "input"},
		{"/v1/embeddings", `{"model":"m","input":["` + strings.Repeat("abcd", 9000) + `","abcd"]}`, 200, `"prompt_tokens":9001`},
		{"/v1/images/generations", `{"prompt":"a","size":"64x64","response_format":"url"}`, 200, "/v1/images/img_"},
		{"/v1/images/generations", `{"prompt":"a","size":"64x64","n":11}`, 400, `"param":"n"`},
		{"/v1/images/generations", `{"prompt":"a","size":"99999x1"}`, 400, `"param":"size"`},
		{"/v1/images/generations", `{"size":"64x64"}`, 400, "prompt"},
		{"/v1/images/generations", `{"model":"none","prompt":"a"}`, 404, "model_not_found"},
		{"/v1/images/generations", `{"prompt":"a","size":"64x64","stream":true,"partial_images":1}`, 200, "event: image_generation.partial_image"},
		{"/v1/images/edits", `{"prompt":"a"}`, 400, "image"},
		{"/v1/videos/sync", `{"prompt":"a","size":"64x64","num_frames":5}`, 200, "ftyp"},
		{"/v1/videos", `{"prompt":"a","seconds":"1e9"}`, 400, "seconds"},
		{"/v1/videos/video_1/remix", `{"prompt":"a"}`, 404, "video_1"},
		{"/v1/audio/speech", `{"model":"m","input":"the sea","voice":"v","response_format":"wav"}`, 200, "RIFF"},
		{"/v1/audio/speech", `{"model":"m","input":"the sea","voice":"v","stream_format":"sse"}`, 200, `"speech.audio.done"`},
		{"/v1/audio/speech", `{"model":"m","input":"the sea","voice":"v","response_format":"opus"}`, 400, "response_format"},
		{"/v1/audio/transcriptions", `{"model":"m"}`, 400, "file"},
		{"/v1/batches", `{"input_file_id":"none","endpoint":"/v1/embeddings"}`, 404, "none"},
		{"/v1/batches", `{"input_file_id":"none","endpoint":"/metrics"}`, 400, "endpoint"},
		{"/v1/responses", `{"model":"m","input":"a","previous_response_id":"resp_none"}`, 404, "previous_response_not_found"},
		{"/v1/responses", `{"model":"m","input":"a","conversation":"conv_none"}`, 404, "conv_none"},
	} {
		if status, _, body := send(t, c, s.URL()+tt.path, tt.body); status != tt.status || !strings.Contains(body, tt.say) {
			t.Errorf("%s %.120s: status %d, want %d with %q: %.400s", tt.path, tt.body, status, tt.status, tt.say, body)
		}
	}
}

func TestForms(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	for _, tt := range []struct {
		path   string
		fields []string
		status int
		say    string
	}{
		{"/v1/images/edits", []string{"@image[]", gray(t, 64, 64), "prompt", "a", "size", "32x16"}, 200, `"image_tokens":4`},
		{"/v1/images/edits", []string{"@image", "no picture", "prompt", "a"}, 400, "Invalid image file"},
		{"/v1/images/variations", []string{"@image", gray(t, 64, 64), "size", "32x16"}, 200, "b64_json"},
		{"/v1/audio/transcriptions", []string{"@file", wav(t, 10), "model", "m"}, 200, `"seconds":10`},
		{"/v1/audio/transcriptions", []string{"@file", wav(t, 40), "model", "m", "response_format", "verbose_json"}, 200, `"end":40`},
		{"/v1/audio/transcriptions", []string{"@file", wav(t, 1), "model", "m", "stream", "true"}, 200, `"transcript.text.done"`},
		{"/v1/audio/translations", []string{"@file", strings.Repeat("x", 16000), "model", "m"}, 200, `"seconds":1`},
		{"/v1/audio/transcriptions", []string{"@file", wav(t, 1), "model", "none"}, 404, "none"},
		{"/v1/audio/transcriptions", []string{"@file", "", "model", "m"}, 400, "empty"},
		{"/v1/videos", []string{"prompt", "a", "@input_reference", gray(t, 64, 64), "size", "64x64"}, 200, `"queued"`},
		{"/v1/files", []string{"@file", "x"}, 400, "purpose"},
	} {
		if status, body := upload(t, c, s.URL()+tt.path, tt.fields...); status != tt.status || !strings.Contains(body, tt.say) {
			t.Errorf("%s %.60q: status %d, want %d with %q: %.400s", tt.path, tt.fields, status, tt.status, tt.say, body)
		}
	}
	status, _, _ := send(t, c, s.URL()+"/v1/files", "--b", "Content-Type", "multipart/form-data; boundary=b")
	require.Equal(t, 400, status)
}

func TestFamilies(t *testing.T) {
	_, err := modelserver.Start(t.Context(), modelserver.Options{Families: []modelserver.Family{"text", "text"}})
	require.Error(t, err)
	s, c := start(t, modelserver.Options{Families: []modelserver.Family{modelserver.Videos}}), client(t)
	status, _, _ := send(t, c, s.URL()+"/v1/chat/completions", "{}")
	require.Equal(t, 404, status)
	status, _, _ = send(t, c, s.URL()+"/v1/videos", "{}")
	require.Equal(t, 400, status)
}

type job struct {
	ID, Status string
	Progress   int
	Output     string `json:"output_file_id"`
	Errors     string `json:"error_file_id"`
	Expires    int64  `json:"expires_at"`
}

func TestVideoJobs(t *testing.T) {
	s, c := start(t, modelserver.Options{TimeScale: 1}), client(t)
	url := s.URL() + "/v1/videos"
	begin := func(frames int) job {
		status, _, body := send(t, c, url, fmt.Sprintf(`{"prompt":"a","size":"512x512","num_frames":%d}`, frames))
		require.Equal(t, 200, status, body)
		return decode[job](t, body)
	}
	state := func(id string) job { return decode[job](t, get(t, c, url+"/"+id)) }
	first, second := begin(5), begin(3600)
	status, _ := fetch(t, c, http.MethodGet, url+"/"+second.ID+"/content")
	require.Equal(t, 404, status, "a film that is not ready")
	eventually(t, "the first", func() bool { return state(first.ID).Status == "completed" })
	require.NotZero(t, state(first.ID).Expires)
	require.Contains(t, get(t, c, url+"/"+first.ID+"/content"), first.ID)
	eventually(t, "the second to begin", func() bool { return state(second.ID).Status == "in_progress" })
	eventually(t, "it to be counted", func() bool {
		return strings.Contains(get(t, c, s.URL()+"/metrics"), "vllm:num_requests_running{engine=\"0\",model_name=\"simulated-llm\"} 1\n")
	})
	status, _, _ = send(t, c, url+"/"+first.ID+"/remix", `{"prompt":"b"}`)
	require.Equal(t, 200, status)
	eventually(t, "the remix to wait", func() bool { return s.Stats().Waiting == 1 })
	list := decode[struct {
		Data []job
		More bool `json:"has_more"`
	}](t, get(t, c, url+"?limit=2&after="+second.ID))
	require.Len(t, list.Data, 1)
	require.Equal(t, first.ID, list.Data[0].ID)
	status, _ = fetch(t, c, http.MethodDelete, url+"/"+second.ID)
	require.Equal(t, 200, status)
	status, _ = fetch(t, c, http.MethodGet, url+"/"+second.ID)
	require.Equal(t, 404, status)
	eventually(t, "the remix", func() bool { return s.Stats().Running+s.Stats().Waiting == 0 })
	require.NoError(t, s.Restart())
	status, _ = fetch(t, c, http.MethodGet, url+"/"+first.ID)
	require.Equal(t, 404, status, "after a restart")
}

// Jobs that wait are bounded, and so are those that are kept.
func TestJobsAreBounded(t *testing.T) {
	s, c := start(t, modelserver.Options{TimeScale: 1e-3}), client(t)
	refused := false
	for range 70 {
		status, _, body := send(t, c, s.URL()+"/v1/videos", `{"prompt":"a"}`)
		refused = refused || status == 429 && strings.Contains(body, "waiting")
	}
	require.True(t, refused)
}

func TestBatches(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	line := `{"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":{"model":"%s","stream":%t,"max_tokens":2,"messages":[{"role":"user","content":"a"}]}}` + "\n"
	run := func(lines string, status int) job {
		code, body := upload(t, c, s.URL()+"/v1/files", "purpose", "batch", "@file", lines)
		require.Equal(t, 200, code, body)
		id := decode[job](t, body).ID
		require.Equal(t, lines, get(t, c, s.URL()+"/v1/files/"+id+"/content"))
		code, _, body = send(t, c, s.URL()+"/v1/batches", fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"24h"}`, id))
		require.Equal(t, status, code, body)
		if status != 200 {
			return job{}
		}
		b := decode[job](t, body)
		eventually(t, "the batch", func() bool {
			b = decode[job](t, get(t, c, s.URL()+"/v1/batches/"+b.ID))
			return b.Status == "completed"
		})
		return b
	}
	lines := ""
	for i := range 20 {
		lines += fmt.Sprintf(line, i, "m", false)
	}
	b := run(lines+fmt.Sprintf(line, 20, "none", false)+fmt.Sprintf(line, 21, "m", true), 200)
	require.Equal(t, 20, strings.Count(get(t, c, s.URL()+"/v1/files/"+b.Output+"/content"), `"status_code":200`))
	failed := get(t, c, s.URL()+"/v1/files/"+b.Errors+"/content")
	require.Equal(t, 1, strings.Count(failed, `"status_code":404`))
	require.Equal(t, 1, strings.Count(failed, "lines cannot be streamed"))
	run("", 400)
	run(`{"custom_id":"1","method":"GET","url":"/metrics","body":{}}`, 400)
	require.Contains(t, get(t, c, s.URL()+"/v1/batches"), b.ID)
}

func TestResponsesGoOn(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	type response struct {
		ID     string
		Status string
		Usage  struct {
			In      int `json:"input_tokens"`
			Details struct {
				Cached int `json:"cached_tokens"`
			} `json:"input_tokens_details"`
		}
	}
	say := func(more string) response {
		status, _, body := send(t, c, s.URL()+"/v1/responses", `{"model":"m","max_output_tokens":40,"input":"`+strings.Repeat("the sea ", 20)+`"`+more+`}`)
		require.Equal(t, 200, status, body)
		return decode[response](t, body)
	}
	first := say("")
	second := say(`,"previous_response_id":"` + first.ID + `"`)
	require.Greater(t, second.Usage.In, 2*first.Usage.In)
	require.Greater(t, second.Usage.Details.Cached, first.Usage.In, "it quotes the answer, which is cached")
	status, _ := fetch(t, c, http.MethodDelete, s.URL()+"/v1/responses/"+first.ID)
	require.Equal(t, 200, status)
	third := say(`,"previous_response_id":"` + second.ID + `","store":false`)
	status, _ = fetch(t, c, http.MethodGet, s.URL()+"/v1/responses/"+third.ID)
	require.Equal(t, 404, status, "one that was not to be stored")
	require.Contains(t, get(t, c, s.URL()+"/v1/responses/"+second.ID+"/input_items"), "the sea")

	status, _, body := send(t, c, s.URL()+"/v1/conversations", `{"items":[{"type":"message","role":"user","content":"hello"}]}`)
	require.Equal(t, 200, status, body)
	id := decode[response](t, body).ID
	before := 0
	for range 3 {
		now := say(`,"conversation":{"id":"` + id + `"}`)
		require.Greater(t, now.Usage.In, before)
		before = now.Usage.In
	}
	items := decode[struct{ Data []job }](t, get(t, c, s.URL()+"/v1/conversations/"+id+"/items"))
	require.Len(t, items.Data, 7)
	status, _ = fetch(t, c, http.MethodDelete, s.URL()+"/v1/conversations/"+id)
	require.Equal(t, 200, status)
}

// A picture takes as long as its steps and its size say, and pictures are made one after another.
func TestImagesTakeTheirTime(t *testing.T) {
	s, c := start(t, modelserver.Options{TimeScale: 1, Denoise: 20 * time.Microsecond}), client(t)
	took := func(steps, side int) time.Duration {
		began := time.Now()
		status, _, body := send(t, c, s.URL()+"/v1/images/generations", fmt.Sprintf(`{"prompt":"a","size":"%dx%[1]d","num_inference_steps":%d}`, side, steps))
		require.Equal(t, 200, status, body)
		return time.Since(began)
	}
	require.GreaterOrEqual(t, took(20, 256), 20*256*20*time.Microsecond)
	require.GreaterOrEqual(t, took(5, 512), 5*1024*20*time.Microsecond)
}
