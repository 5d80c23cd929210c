package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/inferpick/inferpick/examples/envoy/config"
)

// check says of each object below path whether the picker would read it, and returns the
// exit code. Each is looked at by itself, so that path may be the files of another project
// as well. whole, if not empty, is a configuration to look at as a whole, with what its
// objects say of each other.
func check(path, whole string, loader config.Loader, stdout, stderr io.Writer) int {
	files, err := filesBelow(path)
	if err != nil {
		fmt.Fprintf(stderr, "epp: -check: %v\n", err)
		return exitError
	}
	r := newReport(stdout)
	for _, name := range files {
		data, err := readBounded(name)
		if err != nil {
			r.unread(name, err)
			continue
		}
		for _, item := range loader.Inspect(name, data) {
			r.add(item)
		}
	}
	if whole != "" {
		r.references(loader.Load(whole))
	}
	r.summary()
	switch {
	case r.total(config.Fails) > 0 || r.broken > 0:
		return exitError
	case r.total(config.Loads) == 0:
		fmt.Fprintf(stderr, "epp: -check: %s holds nothing for the picker\n", path)
		return exitError
	}
	return exitOK
}

// filesBelow returns the files of YAML and JSON in a folder and those inside, but not what
// begins with a dot. A file is what it is, whatever its name.
func filesBelow(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != path && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
		case !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)):
			if info, err := os.Stat(name); err != nil || !info.IsDir() { // a link to a folder is not followed
				files = append(files, name)
			}
		}
		return nil
	})
	return files, err
}

// readBounded reads a file of no more than a configuration may have.
func readBounded(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("is no regular file")
	case info.Size() > config.DefaultMaxBytes:
		return nil, fmt.Errorf("has more than %d bytes", config.DefaultMaxBytes)
	}
	return os.ReadFile(name)
}

// report writes what was found as it comes, and counts it.
type report struct {
	out     io.Writer
	kinds   map[string]*[3]int // by kind and verdict
	reasons map[string]int     // of what fails, and is skipped
	said    map[string]bool    // errors
	broken  int                // files that cannot be read, and references
}

func newReport(out io.Writer) *report {
	return &report{out: out, kinds: make(map[string]*[3]int), reasons: make(map[string]int), said: make(map[string]bool)}
}

func (r *report) unread(name string, err error) {
	r.broken++
	fmt.Fprintf(r.out, "fails    %s: %v\n", name, err)
}

func (r *report) add(item config.Item) {
	kind := item.Kind
	if item.Verdict == config.Skips {
		kind = "others" // there are many in the files of a whole project
		r.reasons["skipped: "+item.Reason]++
	}
	if item.Verdict == config.Fails && !slices.Contains(config.Kinds(), kind) {
		kind = ""
	}
	if r.kinds[kind] == nil {
		r.kinds[kind] = new([3]int)
	}
	r.kinds[kind][item.Verdict]++
	switch item.Verdict {
	case config.Loads:
		within := ""
		if item.Within != "" {
			within = item.Within + ": "
		}
		fmt.Fprintf(r.out, "loads    %s:%d: %s%s\n", item.File, item.Line, within, strings.TrimSpace(item.Kind+" "+item.Name.String()))
	case config.Fails:
		r.errors(kind, item.Err)
	}
	for _, text := range item.Warnings {
		if item.Verdict != config.Skips || item.Reason == config.AnotherKind {
			fmt.Fprintf(r.out, "warning  %s\n", text)
		}
	}
}

// errors writes all that err joins.
func (r *report) errors(kind string, err error) {
	seen := make(map[string]bool)
	for line := range strings.SplitSeq(err.Error(), "\n") {
		text := strings.TrimPrefix(line, "config: ")
		if r.said[text] {
			continue
		}
		r.said[text] = true
		fmt.Fprintf(r.out, "fails    %s\n", text)
		if reason := nameOf(kind) + ": " + reasonOf(text); !seen[reason] { // an object counts once for each
			seen[reason] = true
			r.reasons[reason]++
		}
	}
}

var (
	whereFails = regexp.MustCompile(`^.*?(:\d+){1,2}: `)
	positions  = regexp.MustCompile(`\[\d+\]`)
	objectName = regexp.MustCompile(`^([^ ]*\]: )*([A-Z][A-Za-z]+( [^ :]+)?: )?`) // and where in another one
	values     = regexp.MustCompile(` (is|has) .*, want `)
	details    = regexp.MustCompile(`(; known are|, first at|; in plugins).*$`)
)

// reasonOf is what an error has in common with others of its like.
func reasonOf(text string) string {
	text = whereFails.ReplaceAllString(text, "")
	text = objectName.ReplaceAllString(text, "")
	text = values.ReplaceAllString(text, ", want ")
	return details.ReplaceAllString(positions.ReplaceAllString(text, "[]"), "")
}

// references says what is wrong with a configuration beside what is with its objects.
func (r *report) references(c *config.Config, err error) {
	before := len(r.said)
	if err != nil {
		r.errors("", err)
	} else {
		for _, one := range c.Rejected {
			r.errors(one.Kind, one.Err)
		}
	}
	r.broken += len(r.said) - before
}

func (r *report) total(v config.Verdict) int {
	n := 0
	for _, counts := range r.kinds {
		n += counts[v]
	}
	return n
}

// summary writes the counts by kind, and the reasons by how often they are given.
func (r *report) summary() {
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\nkind\tobjects\tload\tfail\tskipped\tload of ours\t")
	for _, kind := range append(config.Kinds(), "", "others") {
		if counts := r.kinds[kind]; counts != nil {
			row(w, nameOf(kind), *counts)
		}
	}
	row(w, "all", [3]int{r.total(config.Loads), r.total(config.Fails), r.total(config.Skips)})
	w.Flush()
	reasons := make([]string, 0, len(r.reasons))
	for reason := range r.reasons {
		reasons = append(reasons, reason)
	}
	slices.SortFunc(reasons, func(a, b string) int {
		if d := r.reasons[b] - r.reasons[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	if len(reasons) > 0 {
		fmt.Fprintln(r.out, "\nreasons:")
	}
	for _, reason := range reasons {
		fmt.Fprintf(r.out, "%6d  %s\n", r.reasons[reason], reason)
	}
}

// nameOf is a kind in the summary.
func nameOf(kind string) string {
	if kind == "" {
		return "(unknown)"
	}
	return kind
}

func row(w io.Writer, kind string, n [3]int) {
	share := "-"
	if ours := n[config.Loads] + n[config.Fails]; ours > 0 {
		share = fmt.Sprintf("%.1f %%", 100*float64(n[config.Loads])/float64(ours))
	}
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t\n", kind, n[0]+n[1]+n[2], n[config.Loads], n[config.Fails], n[config.Skips], share)
}
