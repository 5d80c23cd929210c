package openai_test

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

const formType = "multipart/form-data; boundary=XX"

func TestForm(t *testing.T) {
	form := func(parts ...string) string {
		var b strings.Builder
		for _, p := range parts {
			b.WriteString("--XX\r\nContent-Disposition: form-data; " + p + "\r\n")
		}
		return b.String() + "--XX--\r\n"
	}
	file := "name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--X\x00\r\n--XXY\r\n"
	tests := []struct {
		name   string
		api    openai.API
		body   string
		model  string
		stream bool
		audio  int
		err    string
	}{
		{"model and file", openai.Transcriptions, form(file, "name=\"model\"\r\n\r\nwhisper"), "whisper", false, 1, ""},
		{"stream", openai.Transcriptions, form("name=model\r\n\r\nm", "name=\"stream\"\r\n\r\nTrue"), "m", true, 0, ""},
		{"the last of duplicates", openai.Transcriptions, form("name=\"model\"\r\n\r\na", "name=\"model\"\r\n\r\nb"), "b", false, 0, ""},
		{"header in another case", openai.Transcriptions, "--XX\r\ncontent-DISPOSITION:form-data;name=model\r\n\r\nm\r\n--XX--", "m", false, 0, ""},
		{"preamble and padding", openai.Transcriptions, "hello\r\n--XX \t\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--XX--tail", "m", false, 0, ""},
		{"a file whose name breaks the rules", openai.Transcriptions, form(`name="file"; filename="a"b.wav"`+"\r\n\r\nRIFF", "name=model\r\n\r\nm"), "m", false, 1, ""},
		{"a file whose name has blanks", openai.Transcriptions, form("name=file; filename=my file.wav\r\n\r\nRIFF", "name=model\r\n\r\nm"), "m", false, 1, ""},
		{"a field that breaks the rules", openai.Transcriptions, form("name=model\r\n\r\nm", "name=a b\r\n\r\nx"), "m", false, 0, ""},
		{"another disposition", openai.Transcriptions, "--XX\r\nContent-Disposition: form-data; name=model\r\n\r\na\r\n--XX\r\nContent-Disposition: x; name=model\r\n\r\nb\r\n--XX--", "b", false, 0, ""},
		{"a second model that breaks the rules", openai.Transcriptions, form("name=model\r\n\r\na", `name="model"; x="a"b"`+"\r\n\r\nb"), "", false, 0, "quotes"},
		{"a second model with two names", openai.Transcriptions, form("name=model\r\n\r\na", "name=x; name=model\r\n\r\nb"), "", false, 0, "quotes"},
		{"a second model in escapes", openai.Transcriptions, form("name=model\r\n\r\na", `name="mo\del"; x="a"b"`+"\r\n\r\nb"), "", false, 0, "quotes"},
		{"a second model in another alphabet", openai.Transcriptions, form("name=model\r\n\r\na", "name*=UTF-8''mo%64el; x=a b\r\n\r\nb"), "", false, 0, "quotes"},
		{"a second model in no alphabet", openai.Transcriptions, form("name=model\r\n\r\na", "name*=model\r\n\r\nb"), "", false, 0, "quotes"},
		{"a field without a name", openai.Transcriptions, form("name=model\r\n\r\nm", "filename=x\r\n\r\nb"), "m", false, 1, ""},
		{"a file named model", openai.Transcriptions, form("name=\"model\"; filename=\"x\"\r\n\r\nm"), "", false, 0, "missing"},
		{"no model", openai.Transcriptions, form(file), "", false, 0, "missing"},
		{"empty model", openai.Transcriptions, form("name=\"model\"\r\n"), "", false, 0, "empty"},
		{"long model", openai.Transcriptions, form("name=\"model\"\r\n\r\n" + strings.Repeat("x", 257)), "", false, 0, "257"},
		{"wrong stream", openai.Transcriptions, form("name=\"model\"\r\n\r\nm", "name=\"stream\"\r\n\r\nmaybe"), "", false, 0, "stream"},
		{"cut in a value", openai.Transcriptions, "--XX\r\nContent-Disposition: form-data; name=model\r\n\r\nm", "", false, 0, "last boundary"},
		{"cut in a header", openai.Transcriptions, "--XX\r\nContent-Disposition: form-data", "", false, 0, "header"},
		{"another boundary", openai.Transcriptions, "--YY\r\n\r\n--YY--", "", false, 0, "boundary"},
		{"no line end", openai.Transcriptions, "--XX  x\r\n\r\n--XX--", "", false, 0, "line end"},
		{"empty", openai.Transcriptions, "", "", false, 0, "boundary"},
		{"too many parts", openai.Transcriptions, form(strings.Split(strings.Repeat("name=x\r\n|", 1001), "|")...), "", false, 0, "1000 parts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var req types.Request
			p, err := openai.Parse(tt.api, formType, []byte(tt.body), &req, openai.Limits{})
			if tt.err != "" {
				var e *openai.Error
				if !errors.As(err, &e) || e.Status != 400 || !strings.Contains(e.Message, tt.err) {
					t.Fatalf("Parse(%q) = %v, want 400 and %q", tt.body, err, tt.err)
				}
				return
			}
			if err != nil || req.Model != tt.model || req.Stream != tt.stream || req.Prompt.Audio != tt.audio || !p.Form {
				t.Fatalf("Parse(%q) = %+v, %+v, %v", tt.body, req, p, err)
			}
			if tt.audio > 0 && req.Prompt.Tokens != openai.AudioTokens {
				t.Errorf("%d tokens, want %d", req.Prompt.Tokens, openai.AudioTokens)
			}
			i := strings.LastIndex(tt.body, "\r\n\r\n"+tt.model) + 4
			want := tt.body[:i] + "new" + tt.body[i+len(tt.model):]
			if got := p.SpliceModel(nil, []byte(tt.body), "new"); tt.name != "stream" && string(got) != want {
				t.Errorf("SpliceModel(%q) = %q, want %q", tt.body, got, want)
			}
		})
	}

	var req types.Request
	for _, contentType := range []string{"multipart/form-data", "multipart/form-data; boundary=", `multipart/form-data; boundary="`} {
		if _, err := openai.Parse(openai.Transcriptions, contentType, []byte("x"), &req, openai.Limits{}); err == nil {
			t.Errorf("Parse with content type %q: no error", contentType)
		}
	}
	_, err := openai.Parse(openai.Transcriptions, formType, make([]byte, 11), &req, openai.Limits{MaxFormBytes: 10})
	var e *openai.Error
	if !errors.As(err, &e) || e.Status != 413 {
		t.Errorf("Parse of a form that is too large = %v, want 413", err)
	}
}

func TestModelOptionalInForm(t *testing.T) {
	const part = "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n"
	tests := []struct{ name, body, want string }{
		{"a file", "--XX\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nRIFF\r\n--XX--\r\n",
			"--XX" + part + "--XX\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nRIFF\r\n--XX--\r\n"},
		{"nothing", "--XX--", "--XX" + part + "--XX--"},
		{"a preamble", "hello\r\n--XX \r\n\r\nx\r\n--XX--", "hello\r\n--XX" + part + "--XX \r\n\r\nx\r\n--XX--"},
		{"an empty value", "--XX\r\nContent-Disposition: form-data; name=model\r\n\r\n\r\n--XX--", "--XX\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--XX--"},
		{"an empty value without its line", "--XX\r\nContent-Disposition: form-data; name=model\r\n\r\n--XX--", "--XX\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--XX--"},
		{"one that is named", "--XX\r\nContent-Disposition: form-data; name=model\r\n\r\na\r\n--XX--", "--XX\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--XX--"},
	}
	for _, tt := range tests {
		req := types.Request{Model: "old"}
		p, err := openai.Parse(openai.Transcriptions, formType, []byte(tt.body), &req, openai.Limits{ModelOptional: true})
		if err != nil || (req.Model != "") != (tt.name == "one that is named") || (p.Model == types.Span{}) != (req.Model == "") {
			t.Errorf("%s: model %q at %v, %v", tt.name, req.Model, p.Model, err)
		}
		for _, dst := range [][]byte{nil, make([]byte, 0, 1000)} {
			if got := p.SpliceModel(dst, []byte(tt.body), "m"); string(got) != tt.want {
				t.Errorf("%s: SpliceModel = %q, want %q", tt.name, got, tt.want)
			}
		}
	}
}

// FuzzMultipart compares with mime/multipart: forms that are written by it are
// read, and of forms that both can read the model is the same.
func FuzzMultipart(f *testing.F) {
	f.Add([]byte("RIFF\r\n--XX"), "whisper-1", "en", []byte("--XX\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--XX--"))
	f.Add([]byte(""), "m\r\n", "", []byte("--XX\r\nContent-Disposition: form-data; name=model\r\n\r\n--XX--"))
	f.Fuzz(func(t *testing.T, file []byte, model, language string, raw []byte) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		part, _ := w.CreateFormFile("file", "a.wav")
		_, _ = part.Write(file)
		_ = w.WriteField("language", language)
		_ = w.WriteField("model", model)
		_ = w.Close()

		var req types.Request
		p, err := openai.Parse(openai.Transcriptions, w.FormDataContentType(), b.Bytes(), &req, openai.Limits{})
		if ok := model != "" && len(model) <= 256; (err == nil) != ok {
			t.Fatalf("Parse(%q) = %v", b.Bytes(), err)
		}
		if err == nil {
			if req.Model != model || req.Prompt.Audio != 1 {
				t.Fatalf("Parse(%q): model %q, audio %d", b.Bytes(), req.Model, req.Prompt.Audio)
			}
			spliced := p.SpliceModel(nil, b.Bytes(), "spliced")
			if got := lastModel(t, spliced, w.Boundary()); got != "spliced" {
				t.Fatalf("SpliceModel(%q) = %q", b.Bytes(), spliced)
			}
		}

		// With a model that may be missing, it is put in where there is none.
		optional := openai.Limits{ModelOptional: true}
		if model == "" {
			p, err := openai.Parse(openai.Transcriptions, w.FormDataContentType(), b.Bytes(), &req, optional)
			if err != nil || req.Model != "" {
				t.Fatalf("Parse(%q): model %q, %v", b.Bytes(), req.Model, err)
			}
			if got := lastModel(t, p.SpliceModel(nil, b.Bytes(), "put in"), w.Boundary()); got != "put in" {
				t.Fatalf("SpliceModel(%q): model %q", b.Bytes(), got)
			}
		}
		if p, err := openai.Parse(openai.Transcriptions, formType, raw, &req, optional); err == nil && req.Model == "" {
			spliced := p.SpliceModel(nil, raw, "put in")
			if _, err := openai.Parse(openai.Transcriptions, formType, spliced, &req, openai.Limits{}); err != nil || req.Model != "put in" {
				t.Fatalf("SpliceModel(%q) = %q: model %q, %v", raw, spliced, req.Model, err)
			}
		}

		if _, err := openai.Parse(openai.Transcriptions, formType, raw, &req, openai.Limits{}); err == nil {
			if got := lastModel(t, raw, "XX"); got != "" && got != req.Model {
				t.Fatalf("Parse(%q): model %q, mime/multipart reads %q", raw, req.Model, got)
			}
		}
	})
}

// lastModel returns what mime/multipart finds, or "" if it cannot read the form.
func lastModel(t *testing.T, body []byte, boundary string) string {
	t.Helper()
	model := ""
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return model
		}
		if err != nil {
			return ""
		}
		value, err := io.ReadAll(p)
		if err != nil {
			return ""
		}
		if p.FormName() == "model" && p.FileName() == "" {
			model = string(value)
		}
	}
}
