package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/scheduling/director"
)

// call is one streaming request to make.
type call struct {
	path    string
	body    []byte
	session string
	tenant  string
	output  int // exact length of the reply in tokens; 0: the server's choice
}

// client makes calls to the gateways of one fleet.
type client struct {
	next func() string // the URL of the gateway whose turn it is
	http *http.Client
}

func newClient(next func() string) *client {
	return &client{next: next, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// do makes a call and returns the text of the answer when it has ended.
func (c *client) do(ctx context.Context, call call) (text string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.next()+call.path, bytes.NewReader(call.body))
	if err != nil {
		return "", err
	}
	output := ""
	if call.output > 0 {
		output = strconv.Itoa(call.output)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", workloadHeader: "1",
		director.HeaderSession: call.session, director.HeaderFairness: call.tenant, "X-Sim-Output-Tokens": output,
	} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return "", fmt.Errorf("status %d: %s", resp.StatusCode, message)
	}
	return readText(resp.Body)
}

// readText reads the events of a response and returns their text.
func readText(body io.Reader) (string, error) {
	var text strings.Builder
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), 1<<20)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if string(data) == "[DONE]" {
			return text.String(), nil
		}
		// Events of simulated servers hold words only, and thousands a second pass here, so
		// that it looks no closer.
		for _, key := range [...]string{`"content":"`, `"text":"`} {
			if _, after, ok := bytes.Cut(data, []byte(key)); ok {
				word, _, _ := bytes.Cut(after, []byte(`"`))
				text.Write(word)
			}
		}
	}
	return "", cmp.Or(lines.Err(), errors.New("the stream broke off"))
}
