package translate

import (
	"encoding/base64"
	"strings"
)

// partSet says which content parts a role may have.
type partSet uint8

const (
	onlyText partSet = 1 << iota
	withMedia
	withRefusal

	assistantParts = onlyText | withRefusal
	// OpenAI's own tool messages are text only; compatible servers take
	// images, and Anthropic has a place for them.
	toolParts = onlyText | withMedia
	userParts = onlyText | withMedia
)

// content returns a message's content as Anthropic blocks. White space alone
// is left out: Anthropic refuses it, and it says nothing.
func (c *chatReader) content(m *object, allowed partSet) []block {
	n, ok := m.take("content")
	if !ok {
		return nil
	}
	if n.isString() {
		if s := n.str(); strings.TrimSpace(s) != "" {
			return []block{text(s)}
		}
		return nil
	}
	var out []block
	for _, p := range n.list() {
		if b, ok := c.part(p.object(), allowed); ok {
			out = append(out, b)
		}
	}
	return out
}

func (c *chatReader) part(p *object, allowed partSet) (block, bool) {
	var b block
	kind := p.needStr("type")
	switch {
	case kind == "text":
		b = text(p.needStr("text"))
	case kind == "refusal" && allowed&withRefusal != 0:
		b = text(p.needStr("refusal"))
	case kind == "image_url" && allowed&withMedia != 0:
		b = c.image(p)
	case kind == "file" && allowed&withMedia != 0:
		b = c.file(p)
	case kind == "image_url" || kind == "file" || kind == "refusal":
		c.r.wrong(p.at("type"), "A message of this role cannot have it.")
	default:
		c.r.refuse(p.at("type"), "The provider does not take "+quoted(kind)+".", mendUseOpenAI)
	}
	if mark, ok := p.child("prompt_cache_breakpoint"); ok {
		if mode := mark.needStr("mode"); mode != "explicit" {
			c.r.wrong(mark.at("mode"), "It must be explicit.")
		}
		mark.rest()
		b.CacheControl = &typed{"ephemeral"}
	}
	p.rest()
	return b, b.Text == nil || strings.TrimSpace(*b.Text) != ""
}

var imageTypes = map[string]bool{"image/jpeg": true, "image/png": true, "image/gif": true, "image/webp": true}

func (c *chatReader) image(p *object) block {
	img, ok := p.child("image_url")
	if !ok {
		c.r.wrong(p.at("image_url"), "It is required.")
		return block{}
	}
	// Anthropic always looks as closely as it can, which is "high"; the
	// default leaves it to the model.
	img.unless("detail", "Scale the image down, or remove detail.", `"auto"`, `"high"`)
	url := img.needStr("url")
	img.rest()
	if strings.HasPrefix(url, "https://") {
		return block{Type: "image", Source: &source{Type: "url", URL: url}}
	}
	src := c.data(img.at("url"), url)
	if c.r.err == nil && !imageTypes[src.MediaType] {
		c.r.refuse(img.at("url"), "The provider takes JPEG, PNG, GIF and WebP images.", "Convert the image.")
	}
	return block{Type: "image", Source: src}
}

func (c *chatReader) file(p *object) block {
	f, ok := p.child("file")
	if !ok {
		c.r.wrong(p.at("file"), "It is required.")
		return block{}
	}
	f.refuse("file_id", "Send the file itself as file_data.")
	name, _ := f.str("filename")
	src := c.data(f.at("file_data"), f.needStr("file_data"))
	f.rest()
	if c.r.err == nil && src.MediaType != "application/pdf" {
		c.r.refuse(f.at("file_data"), "The provider takes PDF files.", "Convert the file to PDF, or send its text.")
	}
	return block{Type: "document", Source: src, Title: name}
}

// data splits a base64 data URL (RFC 2397).
func (c *chatReader) data(path, url string) *source {
	rest, ok := strings.CutPrefix(url, "data:")
	media, payload, ok2 := strings.Cut(rest, ",")
	media, ok3 := strings.CutSuffix(media, ";base64")
	if !ok || !ok2 || !ok3 || payload == "" || !isBase64(payload) {
		c.r.refuse(path, "The provider takes https URLs of images and base64 data URLs.",
			"Send it as data:<type>;base64,<data>.")
		return &source{}
	}
	media, _, _ = strings.Cut(media, ";") // parameters such as charset or name
	return &source{Type: "base64", MediaType: strings.ToLower(media), Data: payload}
}

// isBase64 reports whether s is standard padded base64 without line breaks.
func isBase64(s string) bool {
	if len(s)%4 != 0 {
		return false
	}
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		switch b := body[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '+', b == '/':
		default:
			return false
		}
	}
	_, err := base64.StdEncoding.DecodeString(s[len(s)-4:])
	return err == nil
}
