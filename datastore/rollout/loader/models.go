package loader

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/inferpick/inferpick/types"
)

// card is one entry of GET /v1/models.
type card struct {
	ID      string `json:"id"`
	Root    string `json:"root"`   // where it was loaded from; empty: the server does not say
	Parent  string `json:"parent"` // base model; empty: it is none, or the server does not say
	OwnedBy string `json:"owned_by"`
}

// list returns what a server says it has.
func (c *Client) list(ctx context.Context, ep *types.Endpoint) ([]card, answer, error) {
	a, err := c.ask(ctx, ep, "list", http.MethodGet, "/v1/models", nil)
	if err != nil {
		return nil, a, err
	}
	if a.status != http.StatusOK {
		return nil, a, a.refused(ErrNotServed)
	}
	cards, err := parseCards(a.body)
	if err != nil {
		return nil, a, a.fail("no list of models", "", err)
	}
	return cards, a, nil
}

// parseCards reads the body of an answer to GET /v1/models.
func parseCards(body []byte) ([]card, error) {
	var list struct {
		Data *[]card `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	if list.Data == nil {
		return nil, fmt.Errorf("data is missing")
	}
	return *list.Data, nil
}

// find returns the entry of a name, nil if there is none.
func find(cards []card, name string) *card {
	for i := range cards {
		if cards[i].ID == name {
			return &cards[i]
		}
	}
	return nil
}

// from reports whether an entry is what was, or is to be, loaded from source. Who does not say is believed.
func (m *card) from(source string) bool {
	return source == "" || m.Root == "" || strings.TrimRight(m.Root, "/") == strings.TrimRight(source, "/")
}

// has reports whether a server lists a name from a source.
func (c *Client) has(ctx context.Context, ep *types.Endpoint, name, source string) (bool, error) {
	cards, _, err := c.list(ctx, ep)
	if err != nil {
		return false, err
	}
	m := find(cards, name)
	return m != nil && m.from(source), nil
}
