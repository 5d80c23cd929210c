package modelserver

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// Options says what to simulate. The zero value is Llama-3.1-8B on one H100, in
// real time, on a free port of 127.0.0.1.
type Options struct {
	// Name of the server, in the X-Sim-Server header and in logs. Default
	// "simulated".
	Name string
	// Models are the names of the base model; the first one labels the metrics.
	// Default: "simulated-llm".
	Models []string
	// Adapters are the LoRA adapters known from the start, at most 4096. More can be
	// loaded over HTTP. A name that is in Models too is an error.
	Adapters []string
	// FixedAdapters leaves the two paths out by which adapters are loaded and unloaded: they
	// answer 404, as those of vLLM do without VLLM_ALLOW_RUNTIME_LORA_UPDATING.
	FixedAdapters bool

	// Families are the APIs that the server has; others answer 404. Default: all of them.
	Families []Family

	// Calibration is the model and the machine. Default: engine.Llama31H100.
	Calibration engine.Calibration
	// TimeScale is the number of simulated seconds in a real one: 1 is real time,
	// 10 ten times as fast. More than the machine can do gives what it can do.
	// Default 1; from 1e-6 to 1e6.
	TimeScale float64
	// Denoise is what its diffusion model takes for one latent token (16 x 16 pixels) in one of its passes, in
	// simulated time. It makes one request's pictures at once. Default 20 µs: 1,024 x 1,024 in 0.33 s by the four
	// steps that are usual.
	Denoise time.Duration
	// MaxSeqs is the most requests in one batch; the others queue. Default 1024.
	MaxSeqs int
	// KVBlocks is the KV cache in blocks of 16 tokens, which also bounds the
	// length of a request. Default: what the Calibration says.
	KVBlocks int
	// MaxLoRAs is the most adapters in one batch. Default 4.
	MaxLoRAs int

	// MaxOutput is the most tokens in a reply for which nobody asked for a length.
	// Default 1024.
	MaxOutput int
	// MaxBodyBytes is the most bytes in a request body; 413 beyond. Default 32 MiB.
	MaxBodyBytes int64
	// Seed varies the replies. Default 0.
	Seed uint64

	// Events makes who publishes what the KV cache stores and drops, such as a
	// kveventstest.Publisher, anew each time that the server starts. It answers GET
	// /kv_event_sources, and is closed when the server ends. Default: nobody.
	Events func() (Publisher, error)

	// Listener to serve on instead of a free port of 127.0.0.1. The Server closes
	// it. After Restart a new listener has the same address.
	Listener net.Listener
	// Logger hears of starts and stops, and of requests at level debug. Default:
	// silence.
	Logger *slog.Logger
}

// Publisher publishes changes of a KV cache.
type Publisher interface {
	http.Handler
	Publish(events ...types.KVEvent) uint64
	Close()
}

// complete fills the defaults in and checks what the caller set.
func (o *Options) complete() error {
	o.Name = cmp.Or(o.Name, "simulated")
	o.TimeScale = cmp.Or(o.TimeScale, 1)
	o.MaxOutput = cmp.Or(o.MaxOutput, 1024)
	o.Denoise = cmp.Or(o.Denoise, 20*time.Microsecond)
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, 32<<20)
	if len(o.Models) == 0 {
		o.Models = []string{"simulated-llm"}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("server", o.Name)

	if !(o.TimeScale >= 1e-6 && o.TimeScale <= 1e6) {
		return fmt.Errorf("modelserver: TimeScale is %v: want 1e-6 to 1e6", o.TimeScale)
	}
	if o.MaxOutput < 1 || o.MaxBodyBytes < 1 {
		return fmt.Errorf("modelserver: MaxOutput is %d and MaxBodyBytes is %d: want at least 1", o.MaxOutput, o.MaxBodyBytes)
	}
	if o.Denoise < 0 || o.Denoise > time.Second {
		return fmt.Errorf("modelserver: Denoise is %v: want at most 1 s", o.Denoise)
	}
	var err error
	if o.Families, err = checkFamilies(o.Families); err != nil {
		return err
	}
	if len(o.Adapters) > maxAdapters {
		return fmt.Errorf("modelserver: %d Adapters: want at most %d", len(o.Adapters), maxAdapters)
	}
	names := slices.Sorted(slices.Values(slices.Concat(o.Models, o.Adapters)))
	for i, name := range names {
		if name == "" || i > 0 && name == names[i-1] {
			return fmt.Errorf("modelserver: model name %q is empty or given twice", name)
		}
	}
	return nil
}
