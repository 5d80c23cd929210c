package vllm

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/inferpick/inferpick/integration/engines/process"
)

// Kind is a tiny model of another kind than the text models of the other tests. Its name is the public one, too.
type Kind string

// The kinds that install-kinds.sh makes.
const (
	Vision    Kind = "vision"    // Qwen2-VL: chats with pictures
	Hearing   Kind = "hearing"   // Whisper: transcriptions
	Embedding Kind = "embedding" // BERT: vectors, and what is made of them
	Ranking   Kind = "ranking"   // BERT: ranks pairs, one by one
)

// StartKind starts a server of a kind as Start does. ErrNone: its model is not there.
func (in Install) StartKind(log string, kind Kind) (*Server, error) {
	model := filepath.Join(filepath.Dir(filepath.Clean(in.Model)), "kinds", string(kind))
	if !exists(filepath.Join(model, "config.json")) {
		return nil, fmt.Errorf("%w of the kind %s: run integration/engines/install-kinds.sh", ErrNone, kind)
	}
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("vllm: %w", err)
	}
	args := []string{"serve", model, "--served-model-name", string(kind), "--host", "127.0.0.1", "--port", strconv.Itoa(port),
		"--load-format", "dummy", "--dtype", "float32", "--enforce-eager", "--max-num-seqs", strconv.Itoa(Places)}
	if kind == Vision || kind == Hearing {
		args = append(args, "--block-size", strconv.Itoa(BlockSize), "--num-gpu-blocks-override", strconv.Itoa(Blocks),
			"--enable-prompt-tokens-details")
	}
	s := &Server{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Log: log}
	s.start = func() (err error) {
		s.process, err = process.Start(log, environment, in.Bin, args...)
		return err
	}
	return s, s.start()
}
