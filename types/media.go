package types

// Media is one picture, sound, film or file in a prompt.
type Media struct {
	Kind MediaKind
	// Span is where its data, or its address, lies in Request.PromptData.
	Span Span
	// Key stands for the content: the same bytes have the same key, in every process, and others nearly always another. It is
	// made of samples of the data, so that of uncompressed data an edit may be missed; of an address, whose content is
	// probably the same where it is the same, it is made of the address. Engines key what they have encoded by all of the
	// content. 0: unknown.
	Key uint64

	Width, Height int     // in pixels; 0: unknown
	Frames        int     // of a film, as many as the client says are to be looked at; 0: unknown
	Seconds       float64 // of sound and films; 0: unknown
	LowDetail     bool    // the client asked for a coarse look: "detail": "low"

	// Tokens is how many tokens of the prompt it is, those of Prompt.Tokens included in it.
	Tokens int
	// Guessed: Tokens is a usual number, since its size is not known.
	Guessed bool
}

// MediaKind is what a Media is.
type MediaKind uint8

// Kinds of media.
const (
	Image MediaKind = iota + 1
	Audio
	Video
	OtherMedia // a file, or a part of a kind that is not known
)

// String returns the name of the kind in lower case.
func (k MediaKind) String() string {
	switch k {
	case Image:
		return "image"
	case Audio:
		return "audio"
	case Video:
		return "video"
	}
	return "other"
}
