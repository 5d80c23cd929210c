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
		return fmt.Errorf("unknown flag -%s", cmp.Or(unknown.GetSpecifiedShortnames(), unknown.GetSpecifiedName()))
	}
	if err == nil && fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return err
}
