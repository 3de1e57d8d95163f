package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

// seed adds the inputs of a folder's golden files.
func seed(f *testing.F, folder string) {
	f.Helper()
	files, _ := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if len(files) == 0 {
		f.Fatal("no golden files to begin with")
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		in, _, _ := strings.Cut(string(b), divider)
		if rest, ok := strings.CutPrefix(in, "# option "); ok {
			_, in, _ = strings.Cut(rest, "\n")
		}
		f.Add([]byte(in))
	}
}

// checkProblem insists that an error is one a gateway can show.
func checkProblem(t *testing.T, err error, kinds ...problem.Kind) {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) || p == nil {
		t.Fatalf("not a problem: %T %v", err, err)
	}
	for _, k := range kinds {
		if p.Kind == k && p.Code != "" && p.Detail != "" {
			return
		}
	}
	t.Fatalf("%s %s %v", p.Kind, p.Code, p)
}

func checkJSON(t *testing.T, out []byte) {
	t.Helper()
	if !json.Valid(out) || bytes.ContainsAny(out, "\n\r") {
		t.Fatalf("not one line of JSON: %s", out)
	}
}

func FuzzChatToMessages(f *testing.F) {
	seed(f, "chat-to-messages")
	f.Fuzz(func(t *testing.T, body []byte) {
		out, err := ChatToMessages(body, Options{Model: "m", MaxTokens: 100})
		if err != nil {
			checkProblem(t, err, problem.Unsupported, problem.Invalid)
			return
		}
		checkJSON(t, out)
		// What came out is a messages request, and says nothing the way
		// back refuses to understand, except what only Anthropic has.
		if _, err := MessagesToChat(out, Options{}); err != nil {
			checkProblem(t, err, problem.Unsupported)
		}
	})
}

func FuzzMessagesToChat(f *testing.F) {
	seed(f, "messages-to-chat")
	f.Fuzz(func(t *testing.T, body []byte) {
		OmitsThinking(body)
		out, err := MessagesToChat(body, Options{Model: "m", ReasoningField: "reasoning"})
		if err != nil {
			checkProblem(t, err, problem.Unsupported, problem.Invalid)
			return
		}
		checkJSON(t, out)
		if _, err := ChatToMessages(out, Options{}); err != nil {
			// Invalid: a schema is passed on as it is, even a broken one.
			checkProblem(t, err, problem.Unsupported, problem.Invalid)
		}
	})
}

func FuzzMessageToChatCompletion(f *testing.F) {
	seed(f, "message-to-completion")
	f.Fuzz(func(t *testing.T, body []byte) {
		out, err := MessageToChatCompletion(body, Answer{})
		if err != nil {
			checkProblem(t, err, problem.Upstream)
			return
		}
		checkJSON(t, out)
	})
}

func FuzzChatCompletionToMessage(f *testing.F) {
	seed(f, "completion-to-message")
	f.Fuzz(func(t *testing.T, body []byte) {
		out, err := ChatCompletionToMessage(body, Answer{ID: "i", Model: "m"})
		if err != nil {
			checkProblem(t, err, problem.Upstream)
			return
		}
		checkJSON(t, out)
	})
}

// fuzzStream feeds a stream and checks every event that comes out.
func fuzzStream(t *testing.T, s stream, in []byte, named bool) {
	var out []byte
	var err error
	for _, ev := range events(string(in)) {
		if out, err = s.Event(out, ev); err != nil {
			break
		}
	}
	if err == nil {
		out, err = s.Close(out)
	}
	if err != nil {
		checkProblem(t, err, problem.Upstream)
	}
	if len(out) == 0 {
		return
	}
	text, whole := strings.CutSuffix(string(out), "\n\n")
	if !whole {
		t.Fatalf("half an event: %q", out)
	}
	for _, ev := range strings.Split(text, "\n\n") {
		if named {
			first, rest, ok := strings.Cut(ev, "\n")
			if !ok || !strings.HasPrefix(first, "event: ") {
				t.Fatalf("not a named event: %q", ev)
			}
			ev = rest
		}
		data, ok := strings.CutPrefix(ev, "data: ")
		if !ok {
			t.Fatalf("no data: %q", ev)
		}
		if data != "[DONE]" {
			checkJSON(t, []byte(data))
		}
	}
}

func FuzzMessagesToChatStream(f *testing.F) {
	seed(f, "message-stream")
	f.Fuzz(func(t *testing.T, in []byte) {
		fuzzStream(t, NewMessagesToChatStream(Answer{IncludeUsage: true}), in, false)
	})
}

func FuzzChatToMessagesStream(f *testing.F) {
	seed(f, "completion-stream")
	f.Fuzz(func(t *testing.T, in []byte) {
		fuzzStream(t, NewChatToMessagesStream(Answer{ID: "i"}), in, true)
	})
}

func FuzzError(f *testing.F) {
	for _, s := range [...]string{
		`{"error":{"message":"x","type":"t","code":429}}`, `{"error":"x"}`, `{"detail":["x"]}`, `{"type":"error","error":{"type":"api_error","message":"x"}}`, `<html>`,
	} {
		f.Add(500, []byte(s))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		for _, d := range [...][2]wire.Dialect{{wire.OpenAI, wire.Anthropic}, {wire.Anthropic, wire.OpenAI}} {
			newStatus, out := Error(d[0], d[1], status, body)
			if newStatus < 400 {
				t.Fatalf("an error with status %d", newStatus)
			}
			checkJSON(t, out)
		}
	})
}
