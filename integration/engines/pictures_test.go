package engines_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// Pictures are as many tokens as the processors of the models say, which record_pictures.py asked.
func TestRecordedPictures(t *testing.T) {
	data, err := os.ReadFile("testdata/picture-tokens.json")
	require.NoError(t, err)
	var recorded struct{ Tokens map[string]map[string]int }
	require.NoError(t, json.Unmarshal(data, &recorded))
	require.Len(t, recorded.Tokens, 8)
	var known *openai.Families
	for model, sizes := range recorded.Tokens {
		family := known.Of(model)
		for size, want := range sizes {
			m := types.Media{Kind: types.Image}
			_, err := fmt.Sscanf(size, "%dx%d", &m.Width, &m.Height)
			require.NoError(t, err)
			p := types.Prompt{Media: []types.Media{m}}
			family.Apply(&p)
			if got := p.Media[0].Tokens; got != want {
				t.Errorf("%s: a picture of %s is %d tokens, want %d", model, size, got, want)
			}
		}
	}
}
