//go:build ollama

package ollama

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The one Ollama, the one node and the one SDK process that the tests share:
// starting them takes longer than most of the tests.
var (
	backend *server
	foundry *node
	sdk     *sdks
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "foundry-ollama-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	// As root, the database runs as a user who must pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return 1, err
	}
	program, err := build(dir)
	if err != nil {
		return 1, err
	}
	home := filepath.Join(dir, "ollama")
	if err := os.Mkdir(home, 0o700); err != nil {
		return 1, err
	}
	if backend, err = newServer(home); err != nil {
		return 1, err
	}
	defer backend.kill()
	if err := createModels(backend); err != nil {
		return 1, err
	}
	if foundry, err = startNode(program, dir, backend.host); err != nil {
		return 1, err
	}
	if sdk, err = startSDKs(foundry.CA); err != nil {
		return 1, err
	}
	code := m.Run()
	sdk.stop()
	err = foundry.stop()
	if code != 0 {
		fmt.Fprintf(os.Stderr, "What foundry logged:\n%s\nWhat Ollama logged:\n%s\n", foundry.log.tail(), backend.log.tail())
	}
	return code, err
}

func createModels(s *server) error {
	paths := map[string]string{}
	for name, content := range map[string][]byte{"babbler": babbler(), "reciter": reciter()} {
		paths[name] = filepath.Join(s.dir, name+".gguf")
		if err := os.WriteFile(paths[name], content, 0o600); err != nil {
			return err
		}
	}
	for name, file := range modelfiles(paths["babbler"], paths["reciter"]) {
		if err := s.create(name, file); err != nil {
			return err
		}
	}
	return nil
}
