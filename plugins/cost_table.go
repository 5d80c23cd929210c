package plugins

import "github.com/inferpick/inferpick/types"

// costTable keeps what Cost knows of endpoints: for each a costServer, and apart from
// that, side by side in memory, the few figures that every decision reads.
type costTable struct {
	endpointTable[costServer]
	figures []costFigures // by number
}

// costFigures is one endpoint as decisions see it, in one line of the processor's cache:
// a decision over thousands of endpoints is as fast as they can be read. See costServer
// for what the figures mean.
type costFigures struct {
	reading    *types.Endpoint // that the figures come from
	stepEnds   float64
	handle     int32
	pending    float32
	queued     float32
	step       float32
	token      float32
	decoding   float32
	outputCost float32
	perContext float32
	kv         float32
	perKV      float32 // 1 / size of the KV cache in tokens; 0: not known
	mine       float32
	_          [4]byte
}

// enter enters ep, which is not in the table; nil if it has gone for good. Caller must
// hold mu for writing.
func (t *costTable) enter(ep *types.Endpoint) *costServer {
	s := t.endpointTable.enter(ep, func(*costServer) {})
	if s == nil {
		return nil
	}
	s.index = t.endpointIndex.lookup(ep)
	if int(s.index) == len(t.figures) {
		t.figures = append(t.figures, costFigures{})
	}
	t.figures[s.index] = costFigures{}
	return s
}

// remove takes ep out. Its costServer lives on with the requests that are there. Caller
// must hold mu for writing.
func (t *costTable) remove(ep *types.Endpoint) {
	if s := t.endpointTable.remove(ep); s != nil {
		t.figures[s.index] = costFigures{}
		s.index = -1
	}
}
