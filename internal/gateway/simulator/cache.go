package simulator

import (
	"hash/fnv"
	"strconv"
	"sync"
	"time"
)

// prefixCache remembers prompt prefixes by hash, never their text.
type prefixCache struct {
	mu      sync.Mutex
	until   map[uint64]time.Time
	entries []uint64 // in order of first sight, for eviction
}

const (
	maxPrefixes    = 1 << 14
	minCached      = 1024 // tokens; OpenAI's and Anthropic's documented minimum
	anthropicBack  = 20   // blocks looked back from a breakpoint, as documented
	cacheLife      = 5 * time.Minute
	cacheLongLife  = time.Hour
	openAIBlock    = 128
	mistralBlock   = 64
	mistralMinimum = 64
)

func (c *prefixCache) has(hash uint64, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.until[hash])
}

func (c *prefixCache) put(hash uint64, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until == nil {
		c.until = map[uint64]time.Time{}
	}
	if _, ok := c.until[hash]; !ok {
		c.entries = append(c.entries, hash)
	}
	if c.until[hash].Before(until) {
		c.until[hash] = until
	}
	if len(c.entries) > maxPrefixes {
		delete(c.until, c.entries[0])
		c.entries = c.entries[1:]
	}
}

// cacheAutomatically is OpenAI's and Mistral's caching: prefixes in blocks, the
// longest one seen before counts, no request asks for it.
func (x *exchange) cacheAutomatically(p *prompt, block, minimum int) (cached int) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.model + "\n" + x.credential() + "\n"))
	total, next, broken := 0, max(block, minimum), false
	for _, s := range p.segments {
		_, _ = h.Write([]byte("\x00" + s.role + "\x00"))
		total += s.tokens - CountTokens(s.text)
		for text := s.text; text != ""; {
			n := nextToken(text)
			_, _ = h.Write([]byte(text[:n]))
			text = text[n:]
			if total++; total < next {
				continue
			}
			hash := h.Sum64()
			if !broken && x.s.cache.has(hash, x.now) {
				cached = next
			} else {
				broken = true
			}
			x.s.cache.put(hash, x.now.Add(cacheLife))
			next += block
		}
	}
	return cached
}

// cacheAtBreakpoints is Anthropic's caching: what lies before a cache_control
// mark is written, and read back if a prefix ending at most twenty blocks
// before the mark was written earlier.
func (x *exchange) cacheAtBreakpoints(p *prompt, u *usage) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.model + "\n" + x.credential() + "\n"))
	hashes, sizes, last := make([]uint64, len(p.segments)), make([]int, len(p.segments)), -1
	total := 0
	for i, s := range p.segments {
		_, _ = h.Write([]byte(s.role + "\x00" + s.text + "\x00" + strconv.Itoa(s.tokens)))
		total += s.tokens
		hashes[i], sizes[i] = h.Sum64(), total
		if s.cache != "" {
			last = i
		}
	}
	if last < 0 || sizes[last] < minCached {
		return
	}
	hit := -1
	for i := last; i >= 0 && i > last-anthropicBack; i-- {
		if sizes[i] >= minCached && x.s.cache.has(hashes[i], x.now) {
			hit = i
			break
		}
	}
	from := 0
	if hit >= 0 {
		u.cached, from = sizes[hit], sizes[hit]
		x.s.cache.put(hashes[hit], x.now.Add(cacheLife))
	}
	for i := hit + 1; i <= last; i++ {
		life := cacheLife
		switch p.segments[i].cache {
		case "1h":
			life = cacheLongLife
			u.write1h += sizes[i] - from
		case "5m":
			u.write5m += sizes[i] - from
		default:
			continue
		}
		from = sizes[i]
		x.s.cache.put(hashes[i], x.now.Add(life))
	}
}

// credential separates the caches of different callers.
func (x *exchange) credential() string {
	return x.r.Header.Get("Authorization") + x.r.Header.Get("X-Api-Key")
}
