// Package commandline reads command lines whose long flags have one dash or two, as those
// of this module's programs and of other endpoint pickers do: -config, --config.
package commandline

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/inferpick/inferpick/internal/check"
)

// Parse is fs.Parse, to which one dash alone is a row of letters: it doubles that of a flag
// with a long name. It returns pflag.ErrHelp if help was asked for.
func Parse(fs *pflag.FlagSet, args []string) error {
	args = slices.Clone(args)
	for i, a := range args {
		name, dash := strings.CutPrefix(a, "-")
		name, _, _ = strings.Cut(name, "=")
		if dash && len(name) > 1 && name[0] != '-' && fs.Lookup(name) != nil {
			args[i] = "-" + a
		}
	}
	err := fs.Parse(args)
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		name := cmp.Or(unknown.GetSpecifiedShortnames(), unknown.GetSpecifiedName())
		if near := Nearest(fs, name); near != "" {
			return fmt.Errorf("unknown flag -%s; the nearest is -%s", name, near)
		}
		return fmt.Errorf("unknown flag -%s", name)
	}
	if err == nil && fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return err
}

// Nearest returns the name of the flag that a name which is none was most likely meant to be, empty
// if none is like it.
func Nearest(fs *pflag.FlagSet, name string) string {
	var known []string
	fs.VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	return check.Nearest(name, known)
}
