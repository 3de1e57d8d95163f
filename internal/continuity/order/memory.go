package order

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// memory is what a node remembers of its orders over restarts: the highest
// epoch that it has seen, and how each order ended. What is not remembered
// would be done a second time.
type memory struct {
	path string

	mu    sync.Mutex
	state remembered
}

type remembered struct {
	Epoch   int64             `json:"epoch"`
	Records map[string]record `json:"records"` // by id#attempt
	Next    int64             `json:"next"`
}

// record is one attempt.
type record struct {
	Order  Order  `json:"order,omitzero"`
	Answer Answer `json:"answer"`
	Heard  bool   `json:"heard,omitempty"` // the answer that it ended with stands in the store
	N      int64  `json:"n"`               // in their order
}

// mostRecords bounds the file; the oldest are forgotten first, and their orders
// are long gone from the store.
const mostRecords = 500

func recall(dir string) (*memory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of orders: %w", err)
	}
	m := &memory{path: filepath.Join(dir, "orders.json"), state: remembered{Records: map[string]record{}}}
	body, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was ordered: %w", err)
	}
	if err := json.Unmarshal(body, &m.state); err != nil {
		return nil, problem.New(problem.Internal, "order-memory", "What this node remembers of its orders cannot be read: "+m.path+".").
			WithMend("Look at which orders it has carried out, then remove the file.").Wrap(err)
	}
	if m.state.Records == nil {
		m.state.Records = map[string]record{}
	}
	return m, nil
}

func key(id string, attempt int) string { return id + "#" + strconv.Itoa(attempt) }

func (m *memory) of(id string, attempt int) (record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.state.Records[key(id, attempt)]
	return r, ok
}

func (m *memory) highest() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Epoch
}

// saw remembers an epoch before anything is done under it.
func (m *memory) saw(epoch int64) error {
	return m.change(func(s *remembered) bool {
		if epoch <= s.Epoch {
			return false
		}
		s.Epoch = epoch
		return true
	})
}

func (m *memory) keep(r record) error {
	return m.change(func(s *remembered) bool {
		k := key(r.Answer.ID, r.Answer.Attempt)
		if old, ok := s.Records[k]; ok && r.Order.ID == "" {
			r.Order = old.Order
		}
		s.Next++
		r.N = s.Next
		s.Records[k] = r
		for len(s.Records) > mostRecords {
			oldest := ""
			for k, r := range s.Records {
				if oldest == "" || r.N < s.Records[oldest].N {
					oldest = k
				}
			}
			delete(s.Records, oldest)
		}
		return true
	})
}

// heard notes that the answer stands in the store. A crash before that has it
// answered twice, which harms nothing.
func (m *memory) heard(a Answer) error {
	return m.change(func(s *remembered) bool {
		k := key(a.ID, a.Attempt)
		r, ok := s.Records[k]
		if !ok || r.Heard || !r.Answer.Over() {
			return false
		}
		r.Heard = true
		s.Records[k] = r
		return true
	})
}

func (m *memory) unheard() (out []record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.state.Records {
		if r.Answer.Over() && !r.Heard {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b record) int { return int(a.N - b.N) })
	return out
}

func (m *memory) change(f func(*remembered) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !f(&m.state) {
		return nil
	}
	body, err := json.Marshal(m.state)
	if err != nil {
		return err
	}
	if err := durable.Replace(m.path, body, 0o600); err != nil {
		return fmt.Errorf("remembering an order: %w", err)
	}
	return nil
}
