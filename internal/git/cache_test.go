package git

import (
	"fmt"
	"testing"
)

// At rest the cache keeps what was used last.
func TestCacheTrim(t *testing.T) {
	c := NewCache(1 << 20)
	for i := range 100 {
		c.put(fmt.Sprint(i), []byte("x"), 1000)
	}
	if _, ok := c.get("3"); !ok {
		t.Fatal("it is not there")
	}
	c.Trim(5000)
	if st := c.Stats(); st.Objects != 4 || st.Bytes > 5000 {
		t.Errorf("it keeps %+v", st)
	}
	for id, want := range map[string]bool{"3": true, "99": true, "97": true, "96": false, "4": false} {
		if _, ok := c.get(id); ok != want {
			t.Errorf("%s: %v", id, ok)
		}
	}
	c.Trim(0)
	if st := c.Stats(); st.Objects != 0 || st.Bytes != 0 {
		t.Errorf("emptied it keeps %+v", st)
	}
}
