package modelserver

import (
	"net/http"
	"time"
)

// serveUpload is POST /v1/files.
func (p *process) serveUpload(w http.ResponseWriter, r *http.Request) (any, *apiError) {
	f, failure := p.readForm(w, r)
	if failure != nil {
		return nil, failure
	}
	purpose, file := f.need("purpose"), f.file("file")
	if f.err != nil {
		return nil, f.err
	}
	return p.storeFile(file.name, purpose, file.data).object, nil
}

func (p *process) storeFile(name, purpose string, data []byte) *stored {
	id, now := p.newID("file"), time.Now()
	file := &stored{kind: "application/octet-stream", data: data, object: object{
		"id": id, "object": "file", "bytes": len(data), "created_at": now.Unix(), "expires_at": now.AddDate(0, 0, 30).Unix(),
		"filename": name[:min(len(name), 255)], "purpose": purpose[:min(len(purpose), 64)], "status": "processed",
	}}
	p.files.put(id, file)
	return file
}
