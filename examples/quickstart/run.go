package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// drainTime is how long requests of the workload may go on after the end was
	// asked for, and gatewayDrainTime how long others may after that.
	drainTime        = 2 * time.Second
	gatewayDrainTime = 500 * time.Millisecond
	// readingTime is how long to wait for all servers to be scraped before the
	// workload begins. It begins anyway: what is not known is unknown.
	readingTime = 5 * time.Second
)

// run does what cfg says until it is done, the duration is over or ctx is done,
// and returns what it came to. Nothing of it is left running then.
func run(ctx context.Context, cfg config, out io.Writer) (s summary, err error) {
	policies := []policy{cfg.policy}
	if cfg.compare.name != "" {
		policies = append(policies, cfg.compare)
	}
	var listeners []net.Listener // of all gateways; first of all the one thing that often fails
	for i := range len(policies) * cfg.gateways {
		address := "127.0.0.1:0"
		if i == 0 {
			address = cfg.listen
		}
		ln, err := listen(address)
		if err != nil {
			return s, err
		}
		defer ln.Close()
		listeners = append(listeners, ln)
	}

	// Fleets, and clients for them, outlive ctx: they are ended in order.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var fleets []*fleet
	var clients []*client
	for _, p := range policies {
		f, err := startFleet(alive, cfg, p)
		if err != nil {
			return s, err
		}
		defer f.close()
		c := newClient(f.next)
		defer c.close()
		fleets, clients = append(fleets, f), append(clients, c)
	}
	reading, cancel := context.WithTimeout(ctx, readingTime)
	defer cancel()
	for _, f := range fleets {
		f.waitForReadings(reading)
	}

	var t traffic = newWorkload(clients, cfg.rate, cfg.seed)
	if cfg.replay != "" {
		t = newReplay(clients, cfg)
	}
	v := newViewer(fleets, t)
	stop := serve(alive, cfg, fleets, listeners, v)
	defer stop()
	if cfg.rollout != "" {
		if err := fleets[0].beginRollout(cfg.rollout, cfg.timeScale); err != nil {
			return s, err
		}
	}
	greet(out, cfg, "http://"+dialable(listeners[0].Addr()))
	work(ctx, alive, cfg, t, v, newTerminal(out))
	stop()

	s = newSummary(cfg, v.refresh(time.Now()))
	fmt.Fprint(out, s.String())
	return s, nil
}

// serve has all gateways serve, the first with the page, and returns what ends that: it
// lets requests finish, within gatewayDrainTime.
func serve(ctx context.Context, cfg config, fleets []*fleet, listeners []net.Listener, v *viewer) (stop func()) {
	pages, closePages := context.WithCancel(ctx)
	handler := newPages(pages, v, cfg)
	var gateways []*instance
	for _, f := range fleets {
		for _, g := range f.gateways {
			g.serve(listeners[len(gateways)], handler)
			gateways, handler = append(gateways, g), nil
		}
	}
	return sync.OnceFunc(func() {
		closePages()
		drain, cancel := context.WithTimeout(ctx, gatewayDrainTime)
		defer cancel()
		for _, f := range fleets { // an answer is better than to be cut off
			defer time.AfterFunc(gatewayDrainTime/2, f.refuseWaiting).Stop()
		}
		var wg sync.WaitGroup
		for _, g := range gateways {
			wg.Go(func() { g.shutdown(drain) })
		}
		wg.Wait()
	})
}

// traffic is what is sent: the built-in workload, or a replay.
type traffic interface {
	// run sends requests until ctx is done or there are no more, and returns when all have
	// ended. Those under way are cut off when calls is done.
	run(ctx, calls context.Context)
	// progress is how far it has come, nil if there is no end, and how many requests were
	// left out.
	progress() (*progress, int64)
}

// work sends traffic and shows views until it is through, the duration is over or ctx is
// done. It returns when no call is open.
func work(ctx, alive context.Context, cfg config, t traffic, v *viewer, term *terminal) {
	if cfg.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.duration)
		defer cancel()
	}
	calls, cut := context.WithCancel(alive)
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drainTime, cut) })()

	through := make(chan struct{})
	go func() { defer close(through); t.run(ctx, calls) }()
	tick := time.NewTicker(cfg.refresh)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			term.show(v.refresh(now))
		case <-through:
			return
		}
	}
}

// dialable returns the address to call a listener at: of one on all addresses,
// loopback.
func dialable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
}

// greet says what runs and where to look.
func greet(out io.Writer, cfg config, url string) {
	fmt.Fprintf(out, "%d simulated model servers behind policy %s", cfg.endpoints, cfg.policy.name)
	if cfg.gateways > 1 {
		how := "share what they know"
		if !cfg.share {
			how = "share nothing"
		}
		fmt.Fprintf(out, " in %d gateways that %s", cfg.gateways, how)
	}
	if cfg.compare.name != "" {
		fmt.Fprintf(out, ", the same again behind %s", cfg.compare.name)
	}
	if cfg.replay != "" {
		fmt.Fprintf(out, "\n%d recorded sessions from %s, %g started per second", len(cfg.sessions), cfg.replay, cfg.rate)
	} else {
		fmt.Fprintf(out, "\n%g requests per second to each", cfg.rate)
	}
	fmt.Fprintf(out, `

  Live page   %s/
  Try it      curl %s/v1/chat/completions \
                -d '{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
  Models      chat, batch, sql-writer, contract-reader, ticket-triage, llama-8b
  APIs        chats, responses, embeddings, rerank, images, videos, audio, files, batches, realtime
  Stop        Ctrl-C

`, url, url)
}
