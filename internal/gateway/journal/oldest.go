package journal

// Oldest is the place of the first record that the journal still holds; the
// zero Position: it holds none.
func (j *Journal) Oldest() Position {
	j.list.Lock()
	defer j.list.Unlock()
	if len(j.segs) == 0 {
		return Position{}
	}
	h := j.segs[0].header
	return Position{Boot: h.boot, Seq: h.first}
}
