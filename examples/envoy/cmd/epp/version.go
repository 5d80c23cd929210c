package main

import (
	"fmt"
	"runtime"
	goinfo "runtime/debug"
)

// version and commit are set by who builds an image (-ldflags "-X main.version=…").
var version, commit string

// build returns which build of the program this is: what was set, or what the Go command
// noted of the tree.
func build() (v, c string) {
	v, c = version, commit
	info, ok := goinfo.ReadBuildInfo()
	if !ok {
		return v, c
	}
	if v == "" {
		v = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && c == "" {
			c = s.Value
		}
	}
	return v, c
}

// versionText is what -version says.
func versionText() string {
	v, c := build()
	return fmt.Sprintf("epp %s, commit %s, %s %s/%s\n", orUnknown(v), orUnknown(c), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
