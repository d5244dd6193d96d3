package window

import "testing"

// Sunday may be the first day of the week or the last.
func TestSundayIsTheSeventhDayToo(t *testing.T) {
	for text, same := range map[string]string{
		"0 9 * * 7": "0 9 * * 0", "0 9 * * 5-7": "0 9 * * 0,5,6", "0 9 * * fri-SUN": "0 9 * * 0,5,6", "0 9 * * 0-7": "0 9 * * 0-6",
		"0 9 * * 1,7": "0 9 * * 0,1", "0 9 * * 1-7/2": "0 9 * * 0,1,3,5", "0 9 * * Sun-Tue": "0 9 * * 0-2", "0 9 * * 7-7": "0 9 * * 0",
	} {
		a, err := ParseSchedule(text)
		b, err2 := ParseSchedule(same)
		if err != nil || err2 != nil || a.bits.Dow != b.bits.Dow {
			t.Errorf("%q: %v, %v, is not %q", text, err, err2, same)
		}
	}
	for _, text := range []string{"0 9 * * 8", "0 9 * * 6-8", "0 9 * * 5-7/0", "0 9 * * 5-7/x", "0 9 * * 8-7", "0 9 * * x-7", "0 9 7-7 * 7/", "0 9 * * -7"} {
		if _, err := ParseSchedule(text); err == nil {
			t.Errorf("%q is a schedule", text)
		}
	}
}
