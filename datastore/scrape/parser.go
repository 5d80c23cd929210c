package scrape

import (
	"fmt"

	"github.com/inferpick/inferpick/types"
)

// Parser reads pages for who fetches them by other means than a Scraper. It
// keeps the lists of adapters of one endpoint: take one Parser for each
// endpoint, in one goroutine at a time.
type Parser struct {
	table  *table
	reader *reader
	cache  adapterCache
}

// NewParser returns a Parser for the given engines; nil means DefaultEngines. It
// fails if an engine is not well formed.
func NewParser(engines []Engine) (*Parser, error) {
	if engines == nil {
		engines = DefaultEngines()
	}
	t, err := newTable(engines)
	if err != nil {
		return nil, err
	}
	return &Parser{table: t, reader: newReader()}, nil
}

// Parse returns the reading that the page holds, without UpdatedAt, and the name
// of the engine it is of. engine is the name of the engine, or empty to find it
// out. A page without any figure of the engine's load is ErrNoMetrics; a figure
// that cannot be read is a PageError; a name that is not among the engines is an
// error.
//
// The lists of adapters must not be changed: the next reading may share them.
func (p *Parser) Parse(page []byte, engine string) (m types.Metrics, name string, err error) {
	index := -1
	if engine != "" {
		if index = p.table.find(engine); index < 0 {
			return m, "", fmt.Errorf("scrape: engine %q is not known: leave it out to find out which it is, or add it to the engines", engine)
		}
	}
	if index, err = p.reader.read(p.table, page, false, index, false, nil); err == nil {
		m = p.reader.metrics(0, &p.cache)
	}
	if index >= 0 {
		name = p.table.engines[index].Name
	}
	return m, name, err
}
