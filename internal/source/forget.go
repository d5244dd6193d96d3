package source

// Forget drops what refs were found to mean, and keeps what was fetched: who asks
// next is told once the remotes were asked again. It must not be called during
// [Hub.Run].
func (h *Hub) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.repos {
		r.forget()
	}
}

func (r *repo) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.found)
	clear(r.told)
	r.saved = nil
	r.unlook()
}

func (a *artifacts) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.found)
	clear(a.told)
	a.unlook()
}
