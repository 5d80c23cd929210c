package httptransport

// This file says what becomes of one leg of a request when something happens to the other.

// stage is how far a leg is.
type stage uint8

const (
	unsentLeg stage = iota
	runningLeg
	servedLeg // the prefill leg: it has ended; the decode leg: what comes of it goes to the client
	endedLeg
)

// event is what happens.
type event uint8

const (
	prefillSent   event = iota
	prefillServed       // it has ended well
	prefillFailed       // or not
	decodeSent
	decodeServed // something of its answer goes to the client
	decodeFailed // it failed, or its answer is an error, before that or after
	decodeEnded  // it has ended well
	clientLeft   // or the request was revoked
)

// todo is what is to be done then, as a set of bits.
type todo uint8

const (
	endPrefill   todo = 1 << iota // close its connection
	endDecode                     // the same
	abortPrefill                  // and tell the engine
	abortDecode
)

// course is how far both legs are.
type course struct {
	prefill, decode stage
	fault           event // prefillFailed or decodeFailed: which was first. 0: neither
}

// on returns what is to be done. awaited says that the decode leg still needs the other one.
func (c *course) on(e event, awaited bool) (do todo) {
	switch e {
	case prefillSent:
		c.prefill = runningLeg
	case prefillServed:
		if c.prefill == runningLeg {
			c.prefill = servedLeg
		}
	case prefillFailed:
		if c.prefill != runningLeg {
			return 0 // it was ended
		}
		c.prefill = endedLeg
		if awaited && (c.decode == runningLeg || c.decode == servedLeg) {
			do = endDecode | abortDecode
			c.decode = endedLeg
		}
		c.blame(e)
	case decodeSent:
		if c.fault == prefillFailed { // it was quicker
			c.decode = endedLeg
			return endDecode
		}
		c.decode = runningLeg
	case decodeServed:
		if c.decode == runningLeg {
			c.decode = servedLeg
		}
	case decodeFailed:
		if c.decode != runningLeg && c.decode != servedLeg {
			return 0
		}
		c.decode = endedLeg
		if c.prefill == runningLeg {
			do = endPrefill | abortPrefill
			c.prefill = endedLeg
		}
		c.blame(e)
	case decodeEnded:
		c.decode = endedLeg // the prefill leg goes on: the engine may not be done with it
	case clientLeft:
		if c.prefill == runningLeg {
			do |= endPrefill
			c.prefill = endedLeg
		}
		if c.decode == runningLeg || c.decode == servedLeg {
			do |= endDecode
			c.decode = endedLeg
		}
	}
	return do
}

func (c *course) blame(e event) {
	if c.fault == 0 {
		c.fault = e
	}
}
