//! Rendering in a process of its own. The cost of a template cannot be foreseen: a short one can
//! double a list forty times. So the system bounds time, memory and depth, and a failure ends that
//! process alone. The process is this program again: it reads the request, writes the answer, and
//! exits.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
};

use super::{
    output::MAX_OUTPUT,
    render::{self, RenderFailure, RenderRequest, STACK},
};
use crate::util::{
    http_client::plain,
    units::{HumanDuration, Size},
};

/// The argument that starts this program as a renderer.
const WORD: &str = "--render-template";

/// The memory of one rendering besides its stack.
const MEMORY: Size = Size::mib(192);

/// The longest answer: the longest output and its frame.
const MAX_ANSWER: u64 = MAX_OUTPUT.0 + 1024;

/// Bytes of the renderer's error output to read.
const MAX_WORDS: u64 = 2048;

/// The program that renders. Unset: this process renders.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Sets the program that renders, which must be a `tidings`.
pub fn render_by(program: PathBuf) {
    // The first call wins.
    let _ = PROGRAM.set(program);
}

/// Renders a template and returns the exit code, if this process was started for that. Any other
/// process uses this program as its renderer from now on. `main` calls it first.
#[must_use]
pub fn serve() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|word| word != WORD) {
        render_by(PathBuf::from("/proc/self/exe"));
        return None;
    }
    let seconds = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    Some(match bound(seconds.unwrap_or(1)).and_then(|()| answer()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The daemon reads it.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    })
}

/// Bounds this process: its memory, its time, and its life by that of its parent.
fn bound(seconds: u64) -> io::Result<()> {
    let limit = |resource, most| {
        let most = Some(within(most, getrlimit(resource).maximum));
        setrlimit(resource, Rlimit { current: most, maximum: most })
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Data, MEMORY.0 + STACK as u64)?;
    limit(Resource::Cpu, seconds)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Makes the kernel kill this process first when memory runs out, where the system allows that.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // Its memory holds a job. Comes last, since a process that cannot be dumped may not write its
    // files in /proc.
    crate::util::process::allow_core_dumps(false);
    Ok(())
}

/// Returns `most`, or the machine's `maximum` if that is lower; only an administrator can raise it.
fn within(most: u64, maximum: Option<u64>) -> u64 {
    maximum.map_or(most, |maximum| most.min(maximum))
}

fn answer() -> io::Result<()> {
    let mut asked = Vec::new();
    io::stdin().read_to_end(&mut asked)?;
    let (request, data) = decoded(&asked)?;
    let answer = match render::on_its_stack(request, data) {
        Ok(text) => [b"+", text.as_bytes()].concat(),
        Err(failure) => [b"-", serde_json::to_vec(&failure)?.as_slice()].concat(),
    };
    io::stdout().write_all(&answer)
}

/// Encodes a request for the process: the length of its head, the head, the job.
fn encoded(request: &RenderRequest, data: &[u8]) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(request)?;
    Ok([&(head.len() as u64).to_be_bytes(), head.as_slice(), data].concat())
}

fn decoded(bytes: &[u8]) -> io::Result<(RenderRequest, Vec<u8>)> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
    let length = usize::try_from(u64::from_be_bytes(*length)).map_err(io::Error::other)?;
    let (head, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    Ok((serde_json::from_slice(head)?, data.to_vec()))
}

/// Renders a request within `limit`.
pub(super) fn render(
    request: RenderRequest,
    data: Vec<u8>,
    limit: Duration,
) -> Result<String, RenderFailure> {
    let Some(program) = PROGRAM.get() else { return render::on_its_stack(request, data) };
    let asked = encoded(&request, &data).and_then(|bytes| memory_file(&bytes));
    let started = asked.and_then(|asked| Ok((asked, memory_file(&[])?)));
    let started = started.and_then(|(asked, words)| {
        let seconds = limit.as_secs().saturating_add(2).to_string();
        let mut command = Command::new(program);
        command.arg(WORD).arg(seconds).env_clear().current_dir("/");
        command.stdin(asked).stdout(Stdio::piped()).stderr(words.try_clone()?);
        Ok((Running(command.spawn()?), words))
    });
    let (running, words) = started.map_err(|error| {
        RenderFailure::of(format!("no process can be started to render it: {}", plain(&error)))
    })?;
    running.answer(words, limit)
}

/// Returns a file in memory with these bytes.
fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("tidings-template", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// A running renderer. Dropping it ends the process.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // A process that has ended is only waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn answer(mut self, words: File, limit: Duration) -> Result<String, RenderFailure> {
        let stdout = self.0.stdout.take();
        let stdout = stdout.ok_or_else(|| RenderFailure::of("its process has no output".to_owned()))?;
        let answer = read(stdout, Instant::now() + limit);
        let answer = answer.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => {
                // Rounded up to milliseconds, since a little of the time has passed already.
                let limit = Duration::from_millis(
                    u64::try_from((limit + Duration::from_nanos(999_999)).as_millis()).unwrap_or(u64::MAX),
                );
                RenderFailure::certain(format!(
                    "it took longer than {}, and was stopped",
                    HumanDuration(limit)
                ))
            }
            _ => RenderFailure::of(plain(&error)),
        })?;
        match answer.split_first() {
            Some((b'+', text)) => String::from_utf8(text.to_vec())
                .map_err(|_| RenderFailure::of("its output is not UTF-8".to_owned())),
            Some((b'-', failure)) => match serde_json::from_slice(failure) {
                Ok(failure) => Err(failure),
                Err(_) => Err(self.ended(words)),
            },
            _ => Err(self.ended(words)),
        }
    }

    /// Returns the failure of a process that ended without an answer.
    fn ended(mut self, mut words: File) -> RenderFailure {
        let status = self.0.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let mut said = Vec::new();
        // Without its error output the failure is only less specific.
        let _ = words.rewind().and_then(|()| words.take(MAX_WORDS).read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said);
        if said.contains("overflowed its stack") {
            return RenderFailure::certain("it is nested too deeply, or what it makes is".to_owned());
        }
        if said.contains("memory allocation of") {
            return RenderFailure::certain(format!("it takes more memory than one rendering may, {MEMORY}"));
        }
        let first = said.lines().next().unwrap_or_default();
        RenderFailure::certain(
            format!("its process ended without an answer ({status}) {first}").trim_end().to_owned(),
        )
    }
}

/// Reads the output of the process until it is closed.
fn read(mut from: ChildStdout, deadline: Instant) -> io::Result<Vec<u8>> {
    let (mut answer, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&wait)) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
        }
        match from.read(&mut chunk)? {
            0 => return Ok(answer),
            read => answer.extend_from_slice(&chunk[..read]),
        }
        if answer.len() as u64 > MAX_ANSWER {
            return Err(io::Error::other("its answer is too long"));
        }
    }
}
