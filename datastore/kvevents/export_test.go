package kvevents

// Decoder gives tests the decoder of batches.
type Decoder struct{ d decoder }

// NewDecoder returns one that reads token ids, too.
func NewDecoder() *Decoder { return &Decoder{decoder{withTokens: true}} }

func (d *Decoder) Batch(payload []byte) (float64, []Event, error) { return d.d.batch(payload) }

func (d *Decoder) Skipped() int { return d.d.skipped }

var DecodeLoad = decodeLoad

var TierOf = func(medium string) Tier { return tierOf([]byte(medium)) }

// Expand returns the addresses of a source, for each rank those of events, replay, load and polls.
func Expand(s Source, host string, byEngine bool) (all [][4]string, err error) {
	ranks, err := s.expand(host, byEngine)
	for _, r := range ranks {
		all = append(all, [4]string{r.events, r.replay, r.load, r.poll})
	}
	return all, err
}

var ReadVLLM, ReadSGLang = readVLLM, readSGLang
