// Command kube-apiserver is a Kubernetes API server with its etcd in one process on
// 127.0.0.1, for tests: it has everything that judges requests (schemas, CEL rules,
// defaults, RBAC, optimistic locking, watches) and nothing that acts by itself. There are
// no controllers, no scheduler and no kubelet: pods are what a test says they are. (That of
// HorizontalPodAutoscalers runs for who asks for it by -autoscale.)
//
//	./build.sh                          # prints where the program is
//	kube-apiserver -dir /tmp/server     # kubectl --kubeconfig /tmp/server/kubeconfig
//
// Started again over the same folder it is the same server: data, key, certificate and
// token are kept.
package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	// Not flag.CommandLine: there the libraries put flags of their own.
	flags := flag.NewFlagSet("kube-apiserver", flag.ExitOnError)
	dir := flags.String("dir", "", "folder for data, keys, the certificate and the kubeconfig of its administrator")
	port := flags.Int("port", 6443, "port on 127.0.0.1")
	verbosity := flags.Int("v", 0, "verbosity of the log")
	scale := flags.Duration("autoscale", 0, "run the controller of HorizontalPodAutoscalers with this period; 0: none")
	flags.Parse(os.Args[1:])
	if *dir == "" {
		log.Fatal("kube-apiserver: -dir names no folder")
	}
	folder, err := filepath.Abs(*dir)
	if err == nil {
		err = prepare(folder, *port)
	}
	if err == nil {
		err = startEtcd(folder)
	}
	if err != nil {
		log.Fatal("kube-apiserver: ", err)
	}
	if *scale > 0 {
		go autoscale(folder, *port, *scale) // ends with the process
	}
	server := app.NewAPIServerCommand()
	server.SetArgs(arguments(folder, *port, *verbosity))
	os.Exit(cli.Run(server)) // until SIGTERM; etcd ends with the process
}

// prepare writes what the server reads at its start, and what its administrator needs.
func prepare(dir string, port int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	token, err := kept(filepath.Join(dir, "token"), func() ([]byte, error) { return []byte(rand.Text()), nil })
	if err != nil {
		return err
	}
	if _, err := kept(serviceAccountKey(dir), newKey); err != nil {
		return err
	}
	if err := prepareFrontProxy(dir); err != nil {
		return err
	}
	users := fmt.Sprintf("%s,admin,admin,system:masters\n%s,%s,autoscaler\n", token, autoscalerToken(token), autoscalerUser)
	if err := os.WriteFile(tokens(dir), []byte(users), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "kubeconfig"), kubeconfig(dir, port, token), 0o600)
}

// kept is the content of the file, which is made where it is not there.
func kept(file string, make func() ([]byte, error)) ([]byte, error) {
	content, err := os.ReadFile(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return content, err
	}
	if content, err = make(); err != nil {
		return nil, err
	}
	return content, os.WriteFile(file, content, 0o600)
}

func startEtcd(dir string) error {
	c := embed.NewConfig()
	c.Dir = filepath.Join(dir, "etcd")
	c.LogLevel = "error"
	c.UnsafeNoFsync = true // a killed process loses nothing by that, a machine would
	// What it advertises stays the default: there is no peer, and the client knows the socket.
	c.ListenClientUrls = etcdSocket(dir, "clients")
	c.ListenPeerUrls = etcdSocket(dir, "peers")
	etcd, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return nil
	case err := <-etcd.Err():
		return fmt.Errorf("etcd: %w", err)
	case <-time.After(time.Minute):
		return errors.New("etcd is not ready after a minute")
	}
}

// etcdSocket is a URL of a Unix socket: no port that another process could take.
func etcdSocket(dir, name string) []url.URL {
	return []url.URL{{Scheme: "unix", Path: filepath.Join(dir, name+".sock")}}
}
