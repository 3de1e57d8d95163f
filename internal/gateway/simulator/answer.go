package simulator

import (
	"crypto/sha256"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// finish is why an answer ended; each format has its own words for it.
type finish int

const (
	finishStop finish = iota
	finishStopSequence
	finishLength
	finishTools
	finishFilter
)

// answer is what the pretended model says, in the pieces a stream carries.
type answer struct {
	thinking []string
	text     []string
	calls    []toolCall
	finish   finish
	stopped  string // the stop sequence that ended it
	usage    usage  // out and reasoning only
}

type toolCall struct {
	name   string
	args   string
	custom bool
}

func (a *answer) whole() string { return strings.Join(a.text, "") }

// wanted finds a wish for length in the prompt: "write 300 words".
var wanted = regexp.MustCompile(`\b(\d{1,5}) (?:words|tokens)\b`)

// maxWanted bounds the words of an answer that a prompt asks for.
const maxWanted = 20000

// compose answers a prompt: the same prompt always gets the same answer. choice
// numbers the answers of one request.
func (x *exchange) compose(p *prompt, choice int) answer {
	var a answer
	budget, cut := p.limit, false
	if budget == 0 {
		budget = math.MaxInt
	}
	if p.thinking {
		a.thinking = Tokens("Simulated reasoning: no model thinks here. The last message has " +
			strconv.Itoa(len(strings.Fields(p.last))) + " words.")
		if a.thinking, budget, cut = within(a.thinking, budget); cut {
			a.finish = finishLength
		}
		a.usage.reasoning = len(a.thinking)
		a.usage.out = len(a.thinking)
	}
	switch {
	case a.finish == finishLength || x.fault.Name == faultEmptyAnswer:
	case x.fault.Name == faultContentFilter:
		a.text, a.finish = Tokens("This simulated answer was"), finishFilter
		a.usage.out += len(a.text)
	case x.fault.Name == faultHuge && x.fault.Value != "header":
		a.text = hugeText(x.fault)
		a.usage.out += int(x.fault.Size / maxToken)
	default:
		if a.calls = p.callTools(); a.calls != nil {
			a.finish = finishTools
			for _, c := range a.calls {
				cost := toolTokens + CountTokens(c.name) + CountTokens(c.args)
				a.usage.out += cost
				budget -= cost
			}
			if budget < 0 { // no half a call
				a.calls, a.finish, a.usage.out = nil, finishLength, p.limit
			}
			break
		}
		x.writeText(&a, p, choice, budget)
	}
	a.text = group(a.text, x.s.o.Chunks)
	return a
}

// writeText writes the text within the budget and up to the first stop sequence.
func (x *exchange) writeText(a *answer, p *prompt, choice, budget int) {
	text := p.structured()
	if text == "" {
		text = p.sentence(choice, x.s.o.Chunks)
	}
	for _, stop := range p.stop {
		if i := strings.Index(text, stop); i >= 0 {
			text, a.stopped, a.finish = text[:i], stop, finishStopSequence
		}
	}
	tokens, _, cut := within(Tokens(text), budget)
	if cut {
		a.finish, a.stopped = finishLength, ""
	}
	a.text = tokens
	a.usage.out += len(tokens)
}

// within cuts tokens to a budget and says what is left of it.
func within(tokens []string, budget int) (kept []string, left int, cut bool) {
	if len(tokens) > budget {
		return tokens[:budget], 0, true
	}
	return tokens, budget - len(tokens), false
}

// sentence is the simulator's ordinary answer.
func (p *prompt) sentence(choice, atLeast int) string {
	digest := sha256.Sum256([]byte(p.last))
	words := strings.Fields(p.last)
	var b strings.Builder
	switch {
	case p.toolResult != "":
		fmt.Fprintf(&b, "This is a simulated answer, no model was asked. The tool said: %s", quote(strings.Fields(p.toolResult)))
	default:
		fmt.Fprintf(&b, "This is a simulated answer, no model was asked. You wrote %d words (digest %x): %s", len(words), digest[:4], quote(words))
	}
	if p.images > 0 {
		fmt.Fprintf(&b, " You attached %d images.", p.images)
	}
	if choice > 0 {
		fmt.Fprintf(&b, " This is choice %d.", choice+1)
	}
	want := 0
	if m := wanted.FindStringSubmatch(p.last); m != nil {
		want, _ = strconv.Atoi(m[1])
		want = min(want, maxWanted/p.n)
	}
	for i := CountTokens(b.String()); i < max(want, atLeast); i++ {
		b.WriteString(filler[i%len(filler)])
	}
	return b.String()
}

// filler words are one token each.
var filler = []string{" and", " so", " on,", " word", " after", " word,"}

// quote repeats the first words.
func quote(words []string) string {
	const most = 12
	if len(words) == 0 {
		return "nothing."
	}
	if len(words) > most {
		return "\u201c" + strings.Join(words[:most], " ") + " \u2026\u201d."
	}
	return "\u201c" + strings.Join(words, " ") + "\u201d."
}

// structured is the answer where the request dictates its shape, else "".
func (p *prompt) structured() string {
	switch {
	case p.schema != nil:
		return string(render(instance(p.schema)))
	case p.anyJSON:
		return string(render(o{"simulated", true, "answer", p.sentence(0, 0)}))
	}
	return ""
}

// callTools decides on tool calls: if the request forces one, or if the last
// user message has the words "call <tool>" and no result has come in yet.
func (p *prompt) callTools() []toolCall {
	if len(p.tools) == 0 || p.call.none {
		return nil
	}
	var calls []toolCall
	for _, t := range p.tools {
		named := t.name == p.call.name
		asked := p.call.name == "" && p.toolResult == "" && mentions(p.last, "call "+t.name)
		if !named && !asked || len(calls) > 0 && !p.call.parallel {
			continue
		}
		calls = append(calls, p.invoke(t))
	}
	if calls == nil && p.call.must {
		calls = append(calls, p.invoke(p.tools[0]))
	}
	return calls
}

// mentions finds phrase where no longer name goes on.
func mentions(text, phrase string) bool {
	i := strings.Index(text, phrase)
	if i < 0 {
		return false
	}
	rest := text[i+len(phrase):]
	return rest == "" || !isNameByte(rest[0]) || mentions(rest, phrase)
}

func isNameByte(c byte) bool {
	return c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func (p *prompt) invoke(t tool) toolCall {
	if t.custom {
		return toolCall{name: t.name, args: "simulated input", custom: true}
	}
	if t.schema == nil {
		return toolCall{name: t.name, args: "{}"}
	}
	return toolCall{name: t.name, args: string(render(instance(t.schema)))}
}

// group joins tokens to at most n pieces; 0: as they are.
func group(tokens []string, n int) []string {
	if n <= 0 || len(tokens) <= n {
		return tokens
	}
	pieces := make([]string, n)
	for i := range pieces {
		pieces[i] = strings.Join(tokens[i*len(tokens)/n:(i+1)*len(tokens)/n], "")
	}
	return pieces
}

// hugeText is Size bytes, in one piece or in equal pieces that share memory.
func hugeText(f Fault) []string {
	const piece = 64 << 10
	if f.Value == "event" || f.Size <= piece {
		return []string{strings.Repeat("simulate", int(f.Size/maxToken)+1)[:f.Size]}
	}
	one := strings.Repeat("simulate", piece/maxToken)
	pieces := make([]string, 0, f.Size/piece+1)
	for left := f.Size; left > 0; left -= piece {
		pieces = append(pieces, one[:min(piece, left)])
	}
	return pieces
}
