package source

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/types"
)

// poolsPerNamespace keeps each namespace below the number of pools beyond which a source reads
// all of its pods.
const poolsPerNamespace = 50

// TestScale: what it costs to follow many pods. INFERPICK_SCALE=5000x200 is 5,000 pods of 200
// pools, which takes minutes; the default is 300x12.
func TestScale(t *testing.T) {
	pods, pools := 300, 12 // and alone, so that the figures are those of the source
	if size := os.Getenv("INFERPICK_SCALE"); size != "" {
		_, err := fmt.Sscanf(size, "%dx%d", &pods, &pools)
		require.NoError(t, err, "INFERPICK_SCALE=%s, want PODSxPOOLS", size)
	}
	c := own(t)
	c.InstallCRDs(t, crds.CRDs)
	begun := time.Now()
	all := fill(t, c, pods, pools)
	t.Logf("made %d pods of %d pools in %v", pods, pools, time.Since(begun).Round(time.Second))

	m := newMeter()
	store := datastore.New(datastore.Options{})
	source, err := kubernetes.New(m.watch(c.Config()), kubernetes.Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	m.begin()
	go func() { ended <- source.Run(ctx, store) }()
	select {
	case <-source.Synced():
	case <-time.After(2 * time.Minute):
		require.Fail(t, "not synced", "%+v", source.Kinds())
	}
	t.Logf("synced:  %s", m.end())
	require.Equal(t, pods, endpointsIn(store))
	lists, watches, relists := requests(source)
	t.Logf("         %d lists, %d watches", lists, watches)
	require.Zero(t, relists)

	m.begin()
	took := flicker(t, store, all)
	t.Logf("changed: %s", m.end())
	t.Logf("         %d changes of readiness in the store after %v at the median, %v at most", len(took), took[len(took)/2], took[len(took)-1])

	m.begin()
	c.Kill(t)
	c.Restart(t)
	back := time.Now()
	require.NoError(t, all[0].Kill(t.Context()))
	cluster.Eventually(t, 2*time.Minute, func() error {
		if n := endpointsIn(store); n != pods-1 {
			return fmt.Errorf("%d endpoints, want %d", n, pods-1)
		}
		return nil
	})
	t.Logf("API server killed and back: %s", m.end())
	t.Logf("         caught up %v after it was ready", time.Since(back).Round(time.Millisecond))
	again, watched, relists := requests(source)
	t.Logf("         %d lists, %d of them again, %d watches", again-lists, relists, watched-watches)

	cancel()
	require.NoError(t, <-ended)
}

// fill makes pools, poolsPerNamespace in each namespace, and pods of them, as large as they are
// in clusters, without servers.
func fill(t *testing.T, c *cluster.Server, pods, pools int) []*cluster.Pod {
	t.Helper()
	var namespaces []string
	for i := range pools {
		if i%poolsPerNamespace == 0 {
			namespaces = append(namespaces, c.Namespace(t))
		}
		c.Apply(t, namespaces[len(namespaces)-1], fmt.Sprintf(`
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: pool-%[1]d}
spec: {selector: {matchLabels: {app: pool-%[1]d}}, targetPorts: [{number: 8000}]}`, i))
	}
	padding := "" // which can be compressed to a quarter, as what is in pods can
	for len(padding) < 6000 {
		padding += strings.Repeat(rand.Text(), 4)
	}
	made := make([]*cluster.Pod, pods)
	errs := make([]error, pods)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := int(next.Add(1) - 1); i < pods; i = int(next.Add(1) - 1) {
				pool := i % pools
				made[i], errs[i] = c.StartPod(t.Context(), cluster.PodOptions{
					Namespace: namespaces[pool/poolsPerNamespace], Silent: true,
					Labels:      map[string]string{"app": fmt.Sprintf("pool-%d", pool)},
					Annotations: map[string]string{"padding": padding},
				})
			}
		})
	}
	workers.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return made
}

// flicker makes pods not ready, one after the other, and returns how long each took to be known.
func flicker(t *testing.T, store *datastore.Store, pods []*cluster.Pod) []time.Duration {
	t.Helper()
	var took []time.Duration
	for i := range min(50, len(pods)) {
		p := pods[i*len(pods)/min(50, len(pods))]
		require.NoError(t, p.SetReady(t.Context(), false))
		begun := time.Now()
		cluster.Eventually(t, patience, func() error { return draining(store, p) })
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took
}

func draining(store *datastore.Store, p *cluster.Pod) error {
	for _, pool := range store.Snapshot().Pools() {
		for _, e := range pool.Endpoints() {
			if e.ID == p.Namespace+"/"+p.Name+"-rank-0" && e.State == types.Draining {
				return nil
			}
		}
	}
	return fmt.Errorf("%s is not draining", p.Name)
}

func endpointsIn(store *datastore.Store) (n int) {
	for _, pool := range store.Snapshot().Pools() {
		n += len(pool.Endpoints())
	}
	return n
}

func requests(source *kubernetes.Source) (lists, watches, relists uint64) {
	for _, k := range source.Kinds() {
		lists, watches, relists = lists+k.Lists, watches+k.Watches, relists+k.Relists
	}
	return lists, watches, relists
}

// meter measures what this process uses from begin to end.
type meter struct {
	bytes atomic.Int64 // read from the API server: TLS, and compressed if the answers are

	begun time.Time
	cpu   time.Duration
	read  int64
	heap  uint64
}

func newMeter() *meter { return new(meter) }

// watch makes the connections of a configuration count.
func (m *meter) watch(config *rest.Config) *rest.Config {
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &meteredConn{conn, &m.bytes}, nil
	}
	return config
}

type meteredConn struct {
	net.Conn
	read *atomic.Int64
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func (m *meter) begin() {
	m.begun, m.cpu, m.read, m.heap = time.Now(), cpuTime(), m.bytes.Load(), heapInUse()
}

func (m *meter) end() string {
	took, cpu, read := time.Since(m.begun), cpuTime()-m.cpu, m.bytes.Load()-m.read
	return fmt.Sprintf("%v, CPU %v, %.2f MB read, heap %+.1f MB", took.Round(time.Millisecond), cpu.Round(time.Millisecond),
		float64(read)/1e6, (float64(heapInUse())-float64(m.heap))/1e6)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heapInUse is what is alive after a collection.
func heapInUse() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
