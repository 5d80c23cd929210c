package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/internal/check"
)

// metricsSource reads the parameters of a metrics-data-source.
func (t *translation) metricsSource(d *declared, p fields) {
	m := &scrape.PoolOptions{Scheme: p.str("scheme"), Path: p.str("path")}
	if m.Scheme != "" && m.Scheme != "http" && m.Scheme != "https" {
		p.Want(false, p.at("scheme"), m.Scheme, "http or https")
	}
	if m.Path != "" {
		if m.Path[0] != '/' {
			m.Path = "/" + m.Path // as there
		}
		_, err := url.Parse("http://host" + m.Path)
		if err != nil || strings.ContainsFunc(m.Path, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' }) {
			p.Want(false, p.at("path"), m.Path, "the path of a URL")
		}
	}
	m.InsecureSkipVerify = p.boolean("insecureSkipVerify")
	if m.Scheme == "https" && p.m["insecureSkipVerify"] == nil {
		t.warn("%s: certificates are verified; insecureSkipVerify: true takes every one, which is the default there", p.path)
	}
	for _, name := range []string{"caCertPath", "clientCertPath", "clientKeyPath", "interval", "families"} {
		if p.has(name) {
			t.warn("%s has no effect here", p.at(name))
		}
	}
	p.done()
	d.source = m
}

// metricsExtractor reads the parameters of a core-metrics-extractor.
func (t *translation) metricsExtractor(d *declared, p fields) {
	m := &scrape.PoolOptions{EngineLabel: p.str("engineLabelKey"), Engine: p.str("defaultEngine")}
	engines := scrape.DefaultEngines()
	var own []scrape.Engine
	p.each("engineConfigs", func(f fields) {
		e := t.engine(f, engines)
		if slices.ContainsFunc(own, func(o scrape.Engine) bool { return strings.EqualFold(o.Name, e.Name) }) {
			f.Failf(f.at("name"), "is %q, which is there twice", e.Name)
			return
		}
		own = append(own, e)
	})
	if len(own) > 0 {
		engines = slices.DeleteFunc(engines, func(e scrape.Engine) bool {
			return slices.ContainsFunc(own, func(o scrape.Engine) bool { return namedSo(&e, o.Name) })
		})
		m.Engines = append(own, engines...)
		engines = m.Engines
		if _, err := scrape.NewParser(engines); err != nil {
			p.Add(p.at("engineConfigs"), err)
		}
	}
	if e := m.Engine; e != "" && !slices.ContainsFunc(engines, func(known scrape.Engine) bool { return namedSo(&known, e) }) {
		names := make([]string, len(engines))
		for i := range engines {
			names[i] = engines[i].Name
		}
		p.Failf(p.at("defaultEngine"), "is %q, which is no engine%s", check.Shorten(e), check.Suggest(e, names))
	}
	p.done()
	d.source = m
}

func namedSo(e *scrape.Engine, name string) bool {
	return strings.EqualFold(e.Name, name) || slices.ContainsFunc(e.Aliases, func(a string) bool { return strings.EqualFold(a, name) })
}

// engine reads one of engineConfigs. In the place of an engine that is known it keeps of
// that what the form has no words for.
func (t *translation) engine(f fields, known []scrape.Engine) scrape.Engine {
	e := scrape.Engine{Name: f.need("name")}
	for _, k := range known {
		if namedSo(&k, e.Name) {
			e.Aliases, e.Awake, e.StartedAt, e.OverlapLabels = k.Aliases, k.Awake, k.StartedAt, k.OverlapLabels
			if k.Name != e.Name { // by an alias, of which there is one for each engine
				e.Aliases = nil
			}
		}
	}
	metrics := func(name string) []scrape.Metric {
		if m, ok := f.metric(name); ok {
			return []scrape.Metric{m}
		}
		return nil
	}
	e.Waiting, e.Running, e.KVUsage = metrics("queuedRequestsSpec"), metrics("runningRequestsSpec"), metrics("kvUsageSpec")
	e.BlockSize, e.NumBlocks = metrics("cacheBlockSizeSpec"), metrics("cacheNumBlocksSpec")
	sizeLabel, numLabel := f.str("cacheBlockSizeLabelName"), f.str("cacheNumBlocksLabelName")
	if info, ok := f.metric("cacheInfoSpec"); ok {
		size, num := info, info
		size.Label, num.Label = orElse(sizeLabel, "block_size"), orElse(numLabel, "num_gpu_blocks")
		e.BlockSize, e.NumBlocks = append(e.BlockSize, size), append(e.NumBlocks, num)
	}
	if lora, ok := f.metric("loraSpec"); ok {
		e.Adapters = []scrape.AdapterMetric{{Name: lora.Name, Max: "max_lora", Running: "running_lora_adapters", Waiting: "waiting_lora_adapters"}}
		if len(lora.Match) > 0 {
			t.warn("%s: its labels have no effect here", f.at("loraSpec"))
		}
	}
	if f.has("customMetrics") {
		t.warn("%s has no effect here: no plugin reads them", f.at("customMetrics"))
	}
	if e.Name != "" && len(e.Waiting)+len(e.Running)+len(e.KVUsage) == 0 {
		f.Failf(f.path, "has none, want at least one of queuedRequestsSpec, runningRequestsSpec and kvUsageSpec")
	}
	f.done()
	return e
}

func orElse(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

var (
	metricForm  = regexp.MustCompile(`^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{(.*)\})?\s*$`)
	matcherForm = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\s]+))\s*(?:,|$)`)
)

// metric reads a figure's place, such as name{label="value",other=value}; false if there
// is none, or a bad one.
func (f fields) metric(name string) (m scrape.Metric, ok bool) {
	text := f.str(name)
	if text == "" {
		return m, false
	}
	bad := func() (scrape.Metric, bool) {
		f.Want(false, f.at(name), text, "the name of a metric, which labels may follow as in name{label=\"value\"}")
		return m, false
	}
	parts := metricForm.FindStringSubmatch(text)
	if parts == nil {
		return bad()
	}
	m.Name = parts[1]
	for rest := parts[2]; strings.TrimSpace(rest) != ""; {
		label := matcherForm.FindStringSubmatch(rest)
		if label == nil {
			return bad()
		}
		if m.Match == nil {
			m.Match = make(map[string]string)
		}
		m.Match[label[1]] = unescape.Replace(label[2]) + label[3]
		rest = rest[len(label[0]):]
	}
	return m, true
}

var unescape = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n")

// serverMetrics joins what the plugins say: those that dataLayer refers to, or else the
// first of each type.
func (t *translation) serverMetrics() scrape.PoolOptions {
	var m scrape.PoolOptions
	if d := t.ofType(typeSource); d != nil && d.source != nil {
		m = *d.source
	}
	if d := t.ofType(typeExtractor); d != nil && d.source != nil {
		x := d.source
		m.EngineLabel, m.Engine, m.Engines = x.EngineLabel, x.Engine, x.Engines
	}
	return m
}

// ofType returns the first plugin of a type that is used, or else the first that there is.
func (t *translation) ofType(typeName string) *declared {
	var found *declared
	for _, d := range t.declared {
		switch {
		case d.typeName != typeName || d.bad:
		case found == nil, d.used && !found.used:
			found = d
		case d.used:
			t.warn("%s (%s) has no effect: %s is used for all servers of the pool", d.path, d.plugin.Name, fmt.Sprintf("%s (%s)", found.path, found.plugin.Name))
		}
	}
	return found
}
