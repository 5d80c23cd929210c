package director_test

import (
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/stretchr/testify/require"
)

// Media weigh what they do for the target model, or else for the public one.
func TestFamilies(t *testing.T) {
	families, err := openai.ParseFamilies([]byte(`{"families":[
		{"models":["food-v1"],"image":{"rule":"fixed","tokens":100}},
		{"models":["food","bulk"],"image":{"rule":"fixed","tokens":200}}]}`))
	require.NoError(t, err)
	png := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), 1024)
	png = append(binary.BigEndian.AppendUint32(png, 1024), make([]byte, 400)...)
	body := func(model, part string) []byte {
		return []byte(`{"model":"` + model + `","messages":[{"role":"user","content":[` + part + `{"type":"text","text":"what?"}]}]}`)
	}
	image := `{"type":"image_url","image_url":{"url":"data:image/png;base64,` + base64.StdEncoding.EncodeToString(png) + `"}},`
	for _, tt := range []struct {
		model, part string
		families    *openai.Families
		want        int
	}{
		{"food", image, families, 100},
		{"bulk", image, families, 200},
		{"other", image, families, 1024},
		{"Qwen/Qwen2-VL-7B-Instruct", image, families, 1369},
		{"Qwen/Qwen2-VL-7B-Instruct", image, nil, 1369},
		{"food", "", families, 0},
	} {
		d := newDirector(t, newStore(t, 2, datastore.Options{}), func(o *director.Options) { o.Families = tt.families })
		r, err := d.Route(ctx, director.Incoming{Path: "/v1/chat/completions", Body: body(tt.model, tt.part)})
		require.NoError(t, err)
		sum := 0
		for _, m := range r.Request.Prompt.Media {
			sum += m.Tokens
		}
		require.Equal(t, tt.want, sum, tt.model)
		require.InDelta(t, tt.want+12, r.Request.Prompt.Tokens, 30)
		r.Done(nil)
	}
}
