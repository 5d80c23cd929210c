package main

import (
	"math/rand/v2"
	"strings"
)

// vocabulary is what made-up prompts are made of. What they say does not matter,
// only which of them begin alike.
const vocabulary = "account agent alert amount answer archive article audit balance batch branch budget cache case chart check " +
	"claim clause client commit contract copy credit customer data date deadline decision default delivery detail device " +
	"draft error event example export factor field file filter form format gateway goal group guide history image import " +
	"index invoice issue item journal key label language ledger legal letter limit line link list manager market member " +
	"message method metric model module month name network note notice number object offer office option order owner " +
	"package page partner path payment period plan point policy price process product profile project purpose quarter " +
	"query question quota range rate reason record refund region release report request result review risk role rule " +
	"sample schedule scope section series server service session share signal source stage standard state step stock " +
	"summary supplier support system table target task team template tenant term test ticket title topic total trace " +
	"transfer trend type unit update user value vendor version week window work year zone"

// writer makes up text.
type writer struct {
	rng   *rand.Rand
	words []string
}

func newWriter(seed, stream uint64) *writer {
	return &writer{rand.New(rand.NewPCG(seed, stream)), strings.Fields(vocabulary)}
}

// prose returns at least n bytes of sentences.
func (w *writer) prose(n int) string {
	var b strings.Builder
	for b.Len() < n {
		for i := range 6 + w.rng.IntN(9) {
			word := w.words[w.rng.IntN(len(w.words))]
			if i == 0 {
				word = strings.ToUpper(word[:1]) + word[1:]
			} else {
				b.WriteByte(' ')
			}
			b.WriteString(word)
		}
		b.WriteString(". ")
	}
	return b.String()
}
