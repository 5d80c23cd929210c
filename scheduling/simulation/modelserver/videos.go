package modelserver

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// keptFor is how long a film can be fetched after it was made.
const keptFor = time.Hour

// video is a job of /v1/videos.
type video struct {
	cancel context.CancelFunc
	mu     sync.Mutex
	fields object // replaced by a copy when it changes
}

func (v *video) view() object {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.fields
}

func (v *video) size() int { return 4 << 10 }
func (v *video) drop()     { v.cancel() }

func (v *video) set(changes object) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fields := object{}
	for _, from := range []object{v.fields, changes} {
		for name, value := range from {
			fields[name] = value
		}
	}
	v.fields = fields
}

// serveVideo is POST /v1/videos, and that of a remix.
func (p *process) serveVideo(w http.ResponseWriter, r *http.Request) (any, *apiError) {
	v, _, failure := p.startVideo(w, r)
	if failure != nil {
		return nil, failure
	}
	return v.view(), nil
}

// serveVideoSync is POST /v1/videos/sync, which waits for the film and answers with it.
func (p *process) serveVideoSync(w http.ResponseWriter, r *http.Request) (any, *apiError) {
	v, done, failure := p.startVideo(w, r)
	if failure != nil {
		return nil, failure
	}
	select {
	case <-done:
	case <-r.Context().Done():
		v.cancel()
		panic(http.ErrAbortHandler)
	}
	return raw{"video/mp4", film(v.view()["id"].(string))}, nil
}

func (p *process) startVideo(w http.ResponseWriter, r *http.Request) (*video, <-chan struct{}, *apiError) {
	f, failure := p.readForm(w, r)
	if failure != nil {
		return nil, nil, failure
	}
	from := r.PathValue("id")
	if from != "" {
		old, failure := p.videos.get(from)
		if failure != nil {
			return nil, nil, failure
		}
		was := old.view() // a remix is as the film that it is made of
		for _, field := range []string{"model", "seconds", "size"} {
			f.fields[field] = cmp.Or(f.fields[field], was[field].(string))
		}
	}
	prompt := f.need("prompt")
	seconds := f.number("seconds", 4, 1, 60)
	width, height := f.size("size", 832, 480, mostSide)
	d := denoise{width: width, height: height, passes: f.passes()}
	d.frames = f.integer("num_frames", int(seconds*f.number("fps", 16, 1, 60)), 1, 3600)
	model, failure := p.modelOf(f)
	if failure == nil && p.slot.waiting.Load() >= mostWaiting {
		failure = invalid("", "%d jobs are waiting: try again later.", mostWaiting)
		failure.status, failure.code = http.StatusTooManyRequests, "rate_limit_exceeded"
	}
	if failure != nil {
		return nil, nil, failure
	}
	ctx, cancel := context.WithCancel(p.ctx)
	id := p.newID("video")
	v := &video{cancel: cancel, fields: object{
		"id": id, "object": "video", "created_at": time.Now().Unix(), "model": model, "status": "queued", "progress": 0,
		"prompt": prompt[:min(len(prompt), 1024)], "seconds": strconv.FormatFloat(seconds, 'f', -1, 64),
		"size": fmt.Sprintf("%dx%d", width, height), "error": nil, "completed_at": nil, "expires_at": nil, "remixed_from_video_id": nil,
	}}
	if from != "" {
		v.fields["remixed_from_video_id"] = from
	}
	p.videos.put(id, v)
	done := make(chan struct{})
	p.running.Go(func() {
		defer close(done)
		defer cancel()
		if p.slot.run(ctx, d, func(done float64) { v.set(object{"status": "in_progress", "progress": int(done * 100)}) }) != nil {
			return // deleted, or the server ends
		}
		now := time.Now()
		v.set(object{"status": "completed", "progress": 100, "completed_at": now.Unix(), "expires_at": now.Add(keptFor).Unix()})
	})
	return v, done, nil
}

func (p *process) serveVideoContent(_ http.ResponseWriter, r *http.Request) (any, *apiError) {
	v, failure := p.videos.get(r.PathValue("id"))
	if failure != nil {
		return nil, failure
	}
	fields := v.view()
	until, ready := fields["expires_at"].(int64)
	failure = p.videos.missing(r.PathValue("id"))
	switch {
	case !ready:
		failure.message = fmt.Sprintf("Video is not ready yet, its status is %s.", fields["status"])
		return nil, failure
	case time.Now().Unix() > until:
		return nil, failure
	}
	return raw{"video/mp4", film(fields["id"].(string))}, nil
}
