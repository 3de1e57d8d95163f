package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

var update = flag.Bool("update", false, "write the golden files' outputs anew")

const divider = "\n----------\n"

var shown = Answer{ID: "shown-1", Model: "house-model", Created: time.Unix(1700000000, 0)}

// The golden files of each folder under testdata: input, a divider, output.
// A first line "# option …" sets options.
func TestGolden(t *testing.T) {
	for folder, run := range map[string]func(t *testing.T, in []byte, option string) (string, error){
		"chat-to-messages": func(t *testing.T, in []byte, option string) (string, error) {
			o := Options{Model: "upstream-model", MaxTokens: 4096}
			if option == "new-version" {
				o.AnthropicVersion = "2026-10-21"
			}
			return pretty(ChatToMessages(in, o))
		},
		"messages-to-chat": func(t *testing.T, in []byte, option string) (string, error) {
			o := Options{Model: "upstream-model"}
			switch option {
			case "reasoning":
				o.ReasoningField = "reasoning_content"
			case "max-completion-tokens":
				o.MaxCompletionTokens = true
			}
			return pretty(MessagesToChat(in, o))
		},
		"message-to-completion": func(t *testing.T, in []byte, option string) (string, error) {
			return pretty(MessageToChatCompletion(in, shown))
		},
		"completion-to-message": func(t *testing.T, in []byte, option string) (string, error) {
			a := shown
			a.OmitReasoning = option == "omit-reasoning"
			return pretty(ChatCompletionToMessage(in, a))
		},
		"message-stream": func(t *testing.T, in []byte, option string) (string, error) {
			a := shown
			a.IncludeUsage = option == "include-usage"
			return feed(NewMessagesToChatStream(a), in)
		},
		"completion-stream": func(t *testing.T, in []byte, option string) (string, error) {
			a := shown
			a.OmitReasoning = option == "omit-reasoning"
			return feed(NewChatToMessagesStream(a), in)
		},
	} {
		t.Run(folder, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no golden files: %v", err)
			}
			for _, name := range files {
				t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
					golden(t, name, run)
				})
			}
		})
	}
}

func golden(t *testing.T, name string, run func(*testing.T, []byte, string) (string, error)) {
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	in, want, _ := strings.Cut(string(file), divider)
	body, option := in, ""
	if rest, ok := strings.CutPrefix(in, "# option "); ok {
		option, body, _ = strings.Cut(rest, "\n")
	}
	got, err := run(t, []byte(body), option)
	if err != nil {
		got += "error: " + describe(t, err) + "\n"
	}
	if *update {
		if err := os.WriteFile(name, []byte(strings.TrimSuffix(in, "\n")+divider+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// describe renders an error, which must be a problem with one of this
// package's codes.
func describe(t *testing.T, err error) string {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) {
		t.Fatalf("not a problem: %T %v", err, err)
	}
	switch p.Code {
	case CodeNotTranslatable, CodeInvalid, CodeUpstreamMalformed:
	default:
		t.Fatalf("unknown code %q", p.Code)
	}
	return p.Kind.String() + " " + p.Code + " " + p.Error()
}

func pretty(out []byte, err error) (string, error) {
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, out, "", "  "); err != nil {
		return string(out), err
	}
	return b.String() + "\n", nil
}

type stream interface {
	Event(dst []byte, ev wire.Event) ([]byte, error)
	Close(dst []byte) ([]byte, error)
}

// feed runs a stream over server-sent events, one at a time.
func feed(s stream, in []byte) (string, error) {
	var out []byte
	for _, ev := range events(string(in)) {
		var err error
		if out, err = s.Event(out, ev); err != nil {
			return string(out), err
		}
	}
	out, err := s.Close(out)
	return string(out), err
}

// events splits server-sent events whose lines end with LF.
func events(in string) []wire.Event {
	var out []wire.Event
	for _, chunk := range strings.Split(in, "\n\n") {
		var ev wire.Event
		for _, line := range strings.Split(chunk, "\n") {
			if s, ok := strings.CutPrefix(line, "event: "); ok {
				ev.Name = []byte(s)
			} else if s, ok := strings.CutPrefix(line, "data: "); ok {
				ev.Data = append(ev.Data, s...)
			}
		}
		out = append(out, ev)
	}
	return out
}
