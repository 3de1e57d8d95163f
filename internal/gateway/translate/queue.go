package translate

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// queue turns deltas that may arrive in any order into Anthropic's content
// blocks, which come one after the other. The first block is live: its deltas
// go out as they come. Later ones wait until it is complete: a text is, as
// soon as something follows it; a tool call is, when its arguments are a whole
// JSON object. Servers that send one call after the other, as all known ones
// do, therefore stream live; a server that interleaves them streams the first
// and has the others follow at the end, unharmed.
type queue struct {
	answer string // the answer's id, for calls that have none
	blocks []*streamBlock
	next   int // the index of the next block to start
	calls  int
	closed map[int64]string // the upstream's index of a finished call → its id
}

type blockKind uint8

const (
	textBlock blockKind = iota
	thinkingBlock
	toolBlock
)

// streamBlock is a block that has not stopped.
type streamBlock struct {
	kind    blockKind
	key     int64 // toolBlock: the upstream's index of the call
	id      string
	name    string
	written []byte // for a tool all arguments, else what has not been sent
	sent    int    // of written
	checked int    // how much of written complete has looked at
	whole   bool   // what it saw
	started bool
}

// write adds text to the last block, or begins a new one.
func (q *queue) write(dst []byte, kind blockKind, s string) []byte {
	n := len(q.blocks)
	if n == 0 || q.blocks[n-1].kind != kind {
		q.blocks = append(q.blocks, &streamBlock{kind: kind})
		n++
	}
	b := q.blocks[n-1]
	b.written = append(b.written, s...)
	return q.advance(dst)
}

// call takes one element of a delta's tool_calls.
func (q *queue) call(dst []byte, t *object) []byte {
	if kind, ok := t.str("type"); ok && kind != "function" && kind != "" {
		t.r.refuse(t.at("type"), "Anthropic has no calls of type "+quoted(kind)+".", "")
		return dst
	}
	var name, arguments string
	if f, ok := t.child("function"); ok {
		name, _ = f.str("name")
		arguments, _ = f.str("arguments")
	}
	id, _ := t.str("id")
	index, indexed := t.integer("index")
	b := q.find(index, indexed, id)
	more := strings.TrimSpace(arguments) != ""
	if b == nil && indexed && name == "" && (id == "" || id == q.closed[index]) && q.closed[index] != "" {
		if more {
			t.r.wrong(t.path, "It goes on after its arguments were complete.")
		}
		return dst
	}
	if b == nil || id == "" && name != "" && more && b.complete() {
		b = &streamBlock{kind: toolBlock, key: index, id: id}
		if id == "" {
			b.id = missingCallID(q.answer, q.calls)
		}
		q.calls++
		q.blocks = append(q.blocks, b)
	}
	if name != "" && name != b.name {
		if b.name != "" {
			t.r.wrong(t.at("function"), "A call's name does not change.")
			return dst
		}
		b.name = name
	}
	b.written = append(b.written, arguments...)
	return q.advance(dst)
}

// find returns the open block a delta belongs to, or nil if it begins a call.
// Some servers leave out the index, and older Ollama numbers all calls 0: then
// another id means another call.
func (q *queue) find(index int64, indexed bool, id string) *streamBlock {
	for i := len(q.blocks) - 1; i >= 0; i-- {
		b := q.blocks[i]
		if b.kind != toolBlock || indexed && b.key != index {
			continue
		}
		if id == "" || id == b.id {
			return b
		}
	}
	return nil
}

// advance sends what can be sent: the live block's news, and whatever follows
// blocks that are complete.
func (q *queue) advance(dst []byte) []byte {
	for len(q.blocks) > 0 {
		b := q.blocks[0]
		dst = q.send(dst, b)
		if len(q.blocks) == 1 || !b.complete() {
			return dst
		}
		dst = q.stop(dst)
	}
	return dst
}

// complete reports whether nothing can follow in the block. It is asked at
// every delta while blocks wait, and looks at arguments only if they may just
// have ended.
func (b *streamBlock) complete() bool {
	if b.kind != toolBlock {
		return true
	}
	if b.name == "" || b.checked == len(b.written) && b.checked > 0 && !b.whole {
		return false
	}
	b.checked = len(b.written)
	b.whole = bytes.HasSuffix(bytes.TrimRight(b.written, " \n\r\t"), []byte("}")) && json.Valid(b.written)
	return b.whole
}

// flush ends all blocks at the end of the answer.
func (q *queue) flush(dst []byte) ([]byte, error) {
	for len(q.blocks) > 0 {
		b := q.blocks[0]
		if b.kind == toolBlock && b.name == "" {
			return dst, malformed("tool_calls["+strconv.FormatInt(b.key, 10)+"].function.name", "A call has no name.")
		}
		dst = q.stop(q.send(dst, b))
	}
	return dst, nil
}

type blockStart struct {
	Type         string `json:"type"`
	Index        int    `json:"index"`
	ContentBlock block  `json:"content_block"`
}

type blockDelta struct {
	Type  string    `json:"type"`
	Index int       `json:"index"`
	Delta deltaBody `json:"delta"`
}

type deltaBody struct {
	Type        string  `json:"type"`
	Text        *string `json:"text,omitempty"`
	Thinking    *string `json:"thinking,omitempty"`
	PartialJSON *string `json:"partial_json,omitempty"`
}

type blockStop struct {
	Type  string `json:"type"`
	Index int    `json:"index"`
}

// send starts the block if it can be and sends what has not been sent. White
// space alone does not start a text: models put it before tool calls, and
// Anthropic refuses it when a client sends the turn back.
func (q *queue) send(dst []byte, b *streamBlock) []byte {
	if !b.started {
		if b.kind == toolBlock && b.name == "" || b.kind != toolBlock && len(bytes.TrimSpace(b.written)) == 0 {
			return dst
		}
		b.started = true
		dst, _ = appendEvent(dst, "content_block_start", blockStart{"content_block_start", q.next, b.first()})
	}
	if b.sent == len(b.written) {
		return dst
	}
	news := string(b.written[b.sent:])
	d := blockDelta{Type: "content_block_delta", Index: q.next}
	switch b.kind {
	case textBlock:
		d.Delta = deltaBody{Type: "text_delta", Text: &news}
	case thinkingBlock:
		d.Delta = deltaBody{Type: "thinking_delta", Thinking: &news}
	default:
		d.Delta = deltaBody{Type: "input_json_delta", PartialJSON: &news}
	}
	dst, _ = appendEvent(dst, d.Type, d)
	if b.sent = len(b.written); b.kind != toolBlock {
		b.written, b.sent = b.written[:0], 0
	}
	return dst
}

// first is the block as it starts: empty. Thinking is unsigned, because only
// Anthropic can sign.
func (b *streamBlock) first() block {
	none := ""
	switch b.kind {
	case textBlock:
		return block{Type: "text", Text: &none, Citations: &null{}}
	case thinkingBlock:
		return block{Type: "thinking", Thinking: &none, Signature: &none}
	}
	return block{Type: "tool_use", ID: b.id, Name: b.name, Input: json.RawMessage("{}"), Caller: &typed{"direct"}}
}

// stop ends the first block, which has been sent.
func (q *queue) stop(dst []byte) []byte {
	b := q.blocks[0]
	q.blocks = q.blocks[1:]
	if !b.started {
		return dst
	}
	if b.kind == toolBlock {
		if q.closed == nil {
			q.closed = map[int64]string{}
		}
		q.closed[b.key] = b.id
	}
	dst, _ = appendEvent(dst, "content_block_stop", blockStop{"content_block_stop", q.next})
	q.next++
	return dst
}
