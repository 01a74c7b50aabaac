package store

import (
	"context"
	"path"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/border"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// Lender is the process that holds a store's lock, as one without rights sees
// it, which writes to a Loan. Each call returns when the other has taken over
// what is named, or has refused it.
type Lender interface {
	Objects(batch []border.File) error
	Image(temp uint64, d fsverity.Digest) error
	Layer(temp uint64, id string) error
	Commit() error
	// Learnt needs no answer, and keeps what it is told until Commit.
	Learnt(sum Sum, d fsverity.Digest)
}

// Borrow opens the store in a view for a process that has no rights in it but to
// read, and to write to a loan. It takes over the view. verity is what the
// lender says of the store. With an empty loan it only reads.
func Borrow(v *view.View, loan string, verity bool, lender Lender) (*Store, error) {
	s := newStore(v, kernel{})
	s.verity = verity
	if loan == "" {
		return s, nil
	}
	var err error
	if s.tmp, err = s.root.Open(tmpDir); err == nil {
		s.own, err = s.root.Open(path.Join(tmpDir, loan))
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.lender, s.loan = lender, loan
	s.jobs = make(chan job, 256)
	s.finishers.Go(s.handOver) // while one batch is taken over, the next one gathers
	return s, nil
}

// Lent returns the directories that a borrower may write to.
func (s *Store) Lent() []string {
	return []string{s.TempDir(), path.Join(s.view.Name(), partialDir)}
}

// batchMax bounds how many objects are handed over in one message.
const batchMax = 256

// handOver hands over what has been written, as much as there is at a time.
func (s *Store) handOver() {
	for j := range s.jobs {
		jobs := []job{j}
		for more := true; more && len(jobs) < batchMax; {
			select {
			case j, ok := <-s.jobs:
				if more = ok; ok {
					jobs = append(jobs, j)
				}
			default:
				more = false
			}
		}
		batch := make([]border.File, len(jobs))
		for i, j := range jobs {
			batch[i] = border.File{Temp: number(j.temp), Digest: j.digest, Size: j.size}
		}
		err := s.lender.Objects(batch)
		for _, j := range jobs {
			s.note(j, err)
		}
	}
}

// Forget has the next look at an object be one at the disk: the lender may have
// collected garbage.
func (s *Store) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
}

// commitLent is Commit for a borrower.
func (s *Store) commitLent(ctx context.Context) error {
	s.mu.Lock()
	for ; s.told < len(s.learnt)*entryBlock; s.told++ {
		block, i := s.learnt[s.told/entryBlock], s.told%entryBlock
		if i == len(block) {
			break
		}
		s.lender.Learnt(block[i].sum, block[i].digest)
	}
	s.mu.Unlock()
	err := s.lender.Commit()
	if err == nil {
		err = s.failure(ctx)
	}
	if err == nil {
		s.mu.Lock()
		s.unnamed = nil
		s.mu.Unlock()
	}
	return err
}
