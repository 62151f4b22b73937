//! What can go wrong, by name.

macro_rules! faults {
    ($($name:ident: $words:literal,)*) => {
        /// One kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault { $($name,)* }

        impl Fault {
            pub const EVERY: &[Self] = &[$(Self::$name,)*];

            pub fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

faults! {
    Kill: "a function is killed before an effect",
    KillAfter: "a function is killed after an effect",
    Slow: "an effect takes up to 90 s",
    Unavailable: "the archive does not answer, and nothing was done",
    LostAnswer: "the archive did as asked, and its answer is lost",
    Repeated: "the archive did as asked, its answer is lost, and the client asks again: it finds itself",
    Refused: "the archive refuses",
    ArchiveOutage: "the archive is away for a while",
    Corrupted: "bytes are changed on their way into the archive",
    ClaimLost: "a claim vanishes",
    ClaimGarbled: "a claim is overwritten with nonsense",
    ReceiptLost: "a receipt expires",
    ReceiptGarbled: "a receipt is overwritten with nonsense",
    QueueDown: "the queue does not answer, and nothing was sent",
    QueueLost: "the queue has sent, and its answer is lost",
    QueuePartial: "the queue has sent some of the messages, and fails",
    QueueOutage: "the queue is away for a while",
    Limited: "429, with or without Retry-After",
    LimitedLong: "429 or 503 with a Retry-After of hours to years",
    Unreachable: "the host cannot be connected to",
    Unclear: "5xx or a time-out, and nothing was done",
    UnclearAfter: "5xx or a time-out, and it was done",
    Unauthorized: "401",
    Gone: "404 on a look, once",
    HostOutage: "the host is away for a while",
    LinkRefused: "a link is refused, once",
    Broken: "a download fails",
    BrokenLong: "a download fails with a Retry-After of hours",
    Html: "HTML with status 200",
    Miscounted: "well-formed, with another number of records, once",
    CutSilently: "a download is cut, and nothing says so",
    CutLoudly: "a download is cut with an error",
    Duplicate: "a message is delivered twice at once",
    Late: "a message is delivered up to an hour late",
    DeleteLost: "a finished message is not deleted",
    TickMissed: "a tick does not come",
    TickTwice: "a tick comes twice",
    TickLate: "a tick comes hours late",
    Wish: "a person asks for weeks, or for their replacement",
    Redrive: "all dead letters are sent again, whatever they are and however old",
    JobSlow: "a job takes hours",
    JobStuck: "a job never moves",
    JobFails: "a job fails",
    JobVanishes: "a job vanishes",
    JobFewer: "a job names fewer files than it states",
    JobMore: "a job names more files than it states",
    JobTwice: "a job names a file twice",
    JobSilent: "a job has succeeded and says nothing of files",
    JobMiscounts: "a job states a wrong count for a file",
    JobMisadds: "a job states a wrong sum",
    JobReorders: "a job names its files in another order each time",
    JobRenames: "a job gives its files other ids each time",
    JobRelapses: "a job has succeeded, and then it has not",
    JobSwaps: "a job trades a file for another between looks",
    JobForgets: "a job's links never work",
    ShortLinks: "links expire within seconds",
}

impl Fault {
    /// Whether the effect happens although the caller sees an error, or dies.
    pub fn after(self) -> bool {
        matches!(
            self,
            Self::KillAfter | Self::LostAnswer | Self::QueueLost | Self::UnclearAfter
        )
    }

    pub fn kills(self) -> bool {
        matches!(self, Self::Kill | Self::KillAfter)
    }

    pub fn of_a_job(self) -> bool {
        self >= Self::JobSlow
    }
}
