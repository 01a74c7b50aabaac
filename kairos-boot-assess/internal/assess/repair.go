package assess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/entries"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/journal"
)

// Repair says what is wrong with the boot entries and what was done about it.
type Repair struct {
	DryRun   bool              `json:"dry_run"`
	Running  string            `json:"running"`            // id of the deployment that runs
	Fallback string            `json:"fallback,omitempty"` // entry that boots when it is bad
	Problems []entries.Problem `json:"problems"`
	Failed   error             `json:"-"` // says which of them could not be repaired
}

// Repair mends boot entries that do not fit together, or only says what it
// would do. It is one step after the other, each durable before the next, and
// each leaves what runs and what the node falls back to as they are: cut at any
// moment, the rest is done the next time.
//
// What could not be repaired is no error, but Repair.Failed: the rest has been.
func (n *Node) Repair(ctx context.Context, dryRun bool) (Repair, error) {
	booted, err := n.Booted()
	if err != nil {
		return Repair{}, err
	}
	if !judged(booted.Mode) {
		return Repair{}, exit.WithCode(fmt.Errorf("%s systems do not have the store of the boot entries", booted.Mode), exit.Refused)
	}
	root, err := os.OpenRoot(n.path(ESPDir))
	if err != nil {
		return Repair{}, fmt.Errorf("repair boot entries: %w", err)
	}
	defer root.Close()
	esp := bls.ESP{Root: root}
	view, err := n.survey(esp, booted)
	if err != nil {
		return Repair{}, fmt.Errorf("repair boot entries: %w", err)
	}
	r := Repair{DryRun: dryRun, Running: booted.ID}
	if r.Problems, r.Fallback = view.Plan(); r.Problems == nil {
		r.Problems = []entries.Problem{}
	}
	if dryRun {
		return r, nil
	}
	for i, p := range r.Problems {
		p, err := n.mend(ctx, esp, p)
		if err == nil && p.Done {
			n.tell(repairEntry(p))
		}
		if err != nil {
			p.Error = err.Error()
			r.Failed = errors.Join(r.Failed, fmt.Errorf("%s: %w", p, err))
		}
		r.Problems[i] = p
	}
	return r, nil
}

// survey finds out what there is. Entries are read before records: a deployment
// is published in the reverse order and taken apart in this one, so that an
// entry without a record is none of a staging that goes on meanwhile.
func (n *Node) survey(esp bls.ESP, booted deployment.Booted) (view entries.Node, err error) {
	view.Running = booted.ID
	if view.Entries, err = esp.Entries(); err != nil {
		return view, err
	}
	if view.Files, err = bootFiles(esp.Root); err != nil {
		return view, err
	}
	store, err := os.OpenRoot(n.path(deployment.StoreMount))
	if err != nil {
		return view, err
	}
	defer store.Close()
	all := deployment.ReadAll(store)
	if view.Records = all.Readable; all.Unreadable != nil {
		n.Log.Warn(all.Unreadable.Error())
		view.Unread = true
	}
	view.Missing = func(e bls.Entry, r *deployment.Record) []string { return missing(esp.Root, e, r) }
	return view, nil
}

// missing returns the boot files of an entry that are not there, or of another
// size than the record says.
func missing(esp *os.Root, e bls.Entry, r *deployment.Record) (names []string) {
	size := map[string]int64{}
	if r != nil {
		for _, f := range r.Boot {
			size[f.Path] = f.Size
		}
	}
	for _, name := range e.Files() {
		info, err := esp.Stat(name)
		want, known := size[name]
		if err != nil || !info.Mode().IsRegular() || known && info.Size() != want {
			names = append(names, name)
		}
	}
	return names
}

// bootFilesDir is where kairos-upgrade keeps boot files on the ESP, and
// bootFile what it calls them: kairos-store(5).
const bootFilesDir = "kairos"

var bootFile = regexp.MustCompile(`^(linux|initrd|uki)-[0-9a-f]{64}(\.efi)?$`)

// maxBootFiles bounds how many files are looked at.
const maxBootFiles = 4096

func bootFiles(esp *os.Root) (files []string, err error) {
	dir, err := esp.Open(bootFilesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxBootFiles)
	if err != nil && err != io.EOF {
		return nil, err
	}
	for _, name := range names {
		if bootFile.MatchString(name) {
			files = append(files, path.Join(bootFilesDir, name))
		}
	}
	return files, nil
}

// mend does what is to be done about one problem. What could not be restored is
// removed where that costs nothing.
func (n *Node) mend(ctx context.Context, esp bls.ESP, p entries.Problem) (entries.Problem, error) {
	var err error
	switch p.Action {
	case entries.Renew:
		err = n.Upgrade(ctx, "rollback", p.Deployment, "--quiet")
	case entries.Restore:
		err = n.restore(ctx, esp, p)
		if other := p.Otherwise(); err != nil && other.Action == entries.Remove {
			n.Log.Warn(err.Error())
			return n.mend(ctx, esp, other)
		}
	case entries.Remove:
		err = esp.RemoveFile(p.Name())
	default:
		return p, nil
	}
	p.Done = err == nil
	return p, err
}

// restore has the boot files of a deployment written again.
func (n *Node) restore(ctx context.Context, esp bls.ESP, p entries.Problem) error {
	if err := n.Upgrade(ctx, "verify", "--repair", "--quiet", p.Deployment); err != nil {
		return err
	}
	list, err := esp.Entries()
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name != p.Name() {
			continue
		}
		if names := missing(esp.Root, e, nil); len(names) > 0 {
			return fmt.Errorf("%s is still not there", names[0])
		}
	}
	return nil
}

// repairEntry tells the journal what was done.
func repairEntry(p entries.Problem) journal.Entry {
	did := map[entries.Action]string{
		entries.Renew: "written again", entries.Restore: "its boot files were written again", entries.Remove: "removed",
	}[p.Action]
	return journal.Entry{
		Message: p.String() + ": " + did, MessageID: journal.Repaired, Priority: 4,
		Fields: map[string]string{
			"KAIROS_ENTRY": p.Entry, "KAIROS_DEPLOYMENT": p.Deployment, "KAIROS_ACTION": string(p.Action),
		},
	}
}
