package flags

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/sharing"
)

// peerFlags say with whom what is shared.
type peerFlags struct {
	epp.Peers
	name    string
	without sharing.Kinds
}

func (p *peerFlags) add(fs *pflag.FlagSet) {
	fs.StringSliceVar(&p.Addresses, "peers", nil, "`host:port` of other pickers of the same servers, with which this one shares what it knows; may be repeated, or have commas between. All addresses of a name are peers, such as those of a headless Service, and this picker may be among them (default: nothing is shared)")
	fs.StringVar(&p.Addr, "peers-addr", ":9004", "`address` at which peers are heard")
	fs.StringVar(&p.name, "peers-name", "", "`name` of this picker for people (default: that of the host)")
	fs.StringVar(&p.KeyFile, "peers-key-file", "", "`file` with a secret that all pickers have; further lines are older or newer ones that are taken, too")
	fs.StringVar(&p.CertFile, "peers-tls-cert", "", "`file` (PEM) of the certificate that is shown to peers, read again when it changes")
	fs.StringVar(&p.CertKeyFile, "peers-tls-key", "", "key `file` (PEM)")
	fs.StringVar(&p.CAFile, "peers-tls-ca", "", "`file` (PEM) of the authorities of peers' certificates")
	fs.StringVar(&p.ServerName, "peers-tls-name", "", "`name` in the certificates of peers (default: the host of -peers)")
	fs.BoolVar(&p.Insecure, "peers-insecure", false, "let everybody take part who can connect: neither key nor certificates")
	fs.Func("peers-without", "`kinds` that are not shared, with commas between: "+strings.Join(kindNames(), ", "), func(s string) (err error) {
		p.without, err = kinds(s)
		return err
	})
}

// check says what is wrong with what the flags say together.
func (p *peerFlags) check() error {
	if len(p.Addresses) == 0 {
		if p.KeyFile != "" || p.CertFile != "" || p.CertKeyFile != "" || p.CAFile != "" || p.Insecure {
			return errors.New("there are flags of peers, but no -peers: want that, or none")
		}
		return nil
	}
	if p.KeyFile == "" && p.CAFile == "" && !p.Insecure {
		return errors.New("-peers: want -peers-key-file, or -peers-tls-cert, -peers-tls-key and -peers-tls-ca, or -peers-insecure")
	}
	return nil
}

// sharing returns the options of sharing, which begins to listen; nil: nothing is shared.
func (p *peerFlags) sharing(logger *slog.Logger) (*sharing.Options, error) {
	if len(p.Addresses) == 0 {
		return nil, nil
	}
	p.Logger = logger
	transport, err := epp.NewMesh(p.Peers)
	if err != nil {
		return nil, err
	}
	return &sharing.Options{Transport: transport, Name: p.name, Without: p.without}, nil
}

// ofKinds are what can be switched off, by name.
var ofKinds = []struct {
	name string
	of   func(*sharing.Kinds) *bool
}{
	{"load", func(k *sharing.Kinds) *bool { return &k.Load }},
	{"placements", func(k *sharing.Kinds) *bool { return &k.Placements }},
	{"ejections", func(k *sharing.Kinds) *bool { return &k.Ejections }},
	{"bindings", func(k *sharing.Kinds) *bool { return &k.Bindings }},
	{"accounts", func(k *sharing.Kinds) *bool { return &k.Accounts }},
	{"notes", func(k *sharing.Kinds) *bool { return &k.Notes }},
}

func kindNames() (names []string) {
	for _, k := range ofKinds {
		names = append(names, k.name)
	}
	return names
}

func kinds(text string) (k sharing.Kinds, err error) {
next:
	for name := range strings.SplitSeq(text, ",") {
		for _, kind := range ofKinds {
			if kind.name == name {
				*kind.of(&k) = true
				continue next
			}
		}
		return k, fmt.Errorf("%q: want some of %s", name, strings.Join(kindNames(), ", "))
	}
	return k, nil
}
