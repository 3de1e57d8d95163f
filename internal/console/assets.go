package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
)

//go:embed static/console.css static/console.js static/icon.svg static/vendor/*.js
var files embed.FS

// scripts are served as one file, in this order: htmx's CSP extension gates
// only what is registered with the script it came with, and separate script
// elements would let htmx start before its gate stands. The vendored files are
// npm's htmx.org 4.0.1, unchanged; static/vendor/SHA256SUMS records them.
var scripts = []string{"static/vendor/htmx.min.js", "static/vendor/hx-csp.min.js", "static/vendor/hx-sse.min.js", "static/console.js"}

// assets are the console's files. Their address holds a hash of the content,
// so that browsers may keep them for ever.
type assets struct {
	script, style, icon string // addresses
	bodies              map[string]asset
}

type asset struct {
	media string
	body  []byte
}

func loadAssets() *assets {
	a := &assets{bodies: map[string]asset{}}
	var bundle [][]byte
	for _, name := range scripts {
		bundle = append(bundle, read(name))
	}
	a.script = a.add("console.js", "text/javascript; charset=utf-8", bytes.Join(bundle, []byte("\n;\n")))
	a.style = a.add("console.css", "text/css; charset=utf-8", read("static/console.css"))
	a.icon = a.add("icon.svg", "image/svg+xml", read("static/icon.svg"))
	return a
}

func read(name string) []byte {
	body, err := files.ReadFile(name)
	if err != nil {
		panic(err) // the compiler embedded it
	}
	return body
}

func (a *assets) add(name, media string, body []byte) string {
	sum := sha256.Sum256(body)
	key := hex.EncodeToString(sum[:8]) + "/" + name
	a.bodies[key] = asset{media, body}
	return path.Join(toStatic, key)
}

func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	found, ok := a.bodies[r.PathValue("hash")+"/"+r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", found.media)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	_, _ = w.Write(found.body)
}
