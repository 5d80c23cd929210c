package rollout

import "fmt"

// errorf returns an error of this package.
func errorf(format string, args ...any) error { return fmt.Errorf("rollout: "+format, args...) }

// sprintf is short for that of fmt.
func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }
