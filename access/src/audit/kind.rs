//! The kinds of audit event. Their names are fixed: SIEM rules and evidence refer to them.

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// What happened. The name that `as_str` gives never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AuditKind { $($(#[$doc])* $variant),+ }

        impl AuditKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The fixed name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
        impl std::str::FromStr for AuditKind {
            type Err = UnknownKind;
            fn from_str(s: &str) -> Result<Self, UnknownKind> {
                match s { $($name => Ok(Self::$variant),)+ _ => Err(UnknownKind(s.chars().take(64).collect())) }
            }
        }
    };
}

/// A name that is no kind of audit event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of audit event: docs/audit-log.md lists them")]
pub struct UnknownKind(pub String);

kinds! {
    /// A gateway process started.
    ServiceStarted = "service.started",
    /// A gateway process stopped in order.
    ServiceStopped = "service.stopped",
    /// The configuration was read anew.
    ConfigChanged = "config.changed",
    /// A log-in succeeded.
    LoginSucceeded = "login.succeeded",
    /// A log-in failed.
    LoginFailed = "login.failed",
    /// Somebody logged in to the web interface.
    WebSessionOpened = "web.session_opened",
    /// A log-in to the web interface was ended by its owner.
    WebSessionClosed = "web.session_closed",
    /// Somebody made a token for the API.
    TokenMade = "token.made",
    /// A token of the API was revoked.
    TokenRevoked = "token.revoked",
    /// Somebody made a single-use token for a desktop.
    DesktopTokenIssued = "desktop.token_issued",
    /// A single-use token for a desktop was used.
    DesktopTokenUsed = "desktop.token_used",
    /// A single-use token for a desktop was refused: used, over, or for something else.
    DesktopTokenRefused = "desktop.token_refused",
    /// Too many attempts: refused without a look at the credential.
    LoginThrottled = "login.throttled",
    /// A person set up their password and second factor.
    PersonEnrolled = "person.enrolled",
    /// Somebody was invited to enrol.
    PersonInvited = "person.invited",
    /// A person's password was changed.
    PasswordChanged = "person.password_changed",
    /// A person's second factor was set or replaced.
    SecondFactorChanged = "person.second_factor_changed",
    /// A person's credentials were removed.
    CredentialsRemoved = "person.credentials_removed",
    /// A code was accepted as second factor.
    SecondFactorUsed = "second_factor.used",
    /// A code was presented a second time.
    SecondFactorReplayed = "second_factor.replayed",
    /// A recovery code was used.
    RecoveryCodeUsed = "recovery_code.used",
    /// A second factor counts for a while.
    SecondFactorRemembered = "second_factor.remembered",
    /// Remembered second factors were dropped.
    SecondFactorForgotten = "second_factor.forgotten",
    /// The described site changed.
    SiteApplied = "site.applied",
    /// The described site was downloaded.
    SiteExported = "site.exported",
    /// The plant state of a zone changed.
    PlantStateChanged = "plant_state.changed",
    /// A host key was pinned or dropped.
    HostKeyTrusted = "host_key.trusted",
    /// A target showed another host key than the pinned one.
    HostKeyMismatch = "host_key.mismatch",
    /// The secret of an account was set.
    SecretSet = "secret.set",
    /// The secret of an account was replaced by rotation.
    SecretRotated = "secret.rotated",
    /// The secret of an account was removed.
    SecretRemoved = "secret.removed",
    /// An account's rotation was turned on or off by the site.
    RotationManaged = "rotation.managed",
    /// Somebody, or a session's end, asked for a rotation.
    RotationWanted = "rotation.wanted",
    /// A rotation came a step further, or could not.
    RotationStep = "rotation.step",
    /// The vault was unsealed.
    VaultUnsealed = "vault.unsealed",
    /// The vault was sealed.
    VaultSealed = "vault.sealed",
    /// Somebody gave a share of the vault's root, or those given were dropped.
    VaultShare = "vault.share",
    /// An attempt to unseal the vault, or to change its keys, failed.
    VaultRefused = "vault.refused",
    /// The vault seals with a new key.
    VaultRekeyed = "vault.rekeyed",
    /// An old key of the vault was taken out of use, or its root exchanged.
    VaultKeyRetired = "vault.key_retired",
    /// The vault's stored keyring was replaced.
    KeyringChanged = "keyring.changed",
    /// Sealed secrets were wrapped anew for the newest key.
    SecretsRewrapped = "keyring.rewrapped",
    /// A secret was leased to a session.
    SecretLeased = "secret.leased",
    /// A lease ended.
    SecretReturned = "secret.returned",
    /// Somebody asked to see a secret.
    CheckoutRequested = "checkout.requested",
    /// Another person agreed that it may be seen.
    CheckoutAgreed = "checkout.agreed",
    /// A request to see a secret was refused, or taken back.
    CheckoutRefused = "checkout.refused",
    /// Policy does not let the person see the secret.
    CheckoutDenied = "checkout.denied",
    /// A person sees a secret from here on.
    CheckoutOpened = "checkout.opened",
    /// A check-out was returned.
    CheckoutReturned = "checkout.returned",
    /// A check-out came to its end without being returned.
    CheckoutExpired = "checkout.expired",
    /// A break-glass envelope was made.
    EnvelopeMade = "envelope.made",
    /// A break-glass envelope was opened.
    EnvelopeOpened = "envelope.opened",
    /// Somebody tried to open a break-glass envelope and could not.
    EnvelopeRefused = "envelope.refused",
    /// The built-in CA signed a certificate.
    CertificateIssued = "certificate.issued",
    /// The store took note of an SSH authority.
    AuthorityKnown = "authority.known",
    /// A new SSH authority was published, to take over from another.
    AuthorityRotated = "authority.rotated",
    /// From when on the new SSH authority signs was said.
    AuthoritySwitched = "authority.switched",
    /// An SSH authority counts no more.
    AuthorityFinished = "authority.finished",
    /// A certificate was put on the revocation list.
    CertificateRevoked = "certificate.revoked",
    /// Privileged accounts were looked for on an asset.
    AccountsDiscovered = "accounts.discovered",
    /// A window was asked for.
    WindowRequested = "window.requested",
    /// A person approved a window.
    WindowApproved = "window.approved",
    /// A person refused a window.
    WindowRefused = "window.refused",
    /// The requester took a window back.
    WindowWithdrawn = "window.withdrawn",
    /// A window was ended early for good.
    WindowRevoked = "window.revoked",
    /// A window's end was moved forward.
    WindowShortened = "window.shortened",
    /// Policy decided and allowed.
    DecisionPermitted = "decision.permitted",
    /// Policy decided and refused.
    DecisionDenied = "decision.denied",
    /// A session began.
    SessionOpened = "session.opened",
    /// A session ended.
    SessionClosed = "session.closed",
    /// A session was suspended.
    SessionSuspended = "session.suspended",
    /// A session goes on after a suspension.
    SessionResumed = "session.resumed",
    /// Somebody gave an order to a live session.
    SessionOrdered = "session.ordered",
    /// Somebody watches a live session.
    SessionWatched = "session.watched",
    /// A channel of a session was refused.
    ChannelRefused = "channel.refused",
    /// A forward to something that is not allowed was refused: a blocked lateral movement.
    ForwardRefused = "forward.refused",
    /// A detection.
    Finding = "finding",
    /// A checkpoint of the recording, so that the audit log proves the recording's state.
    RecordingCheckpoint = "recording.checkpoint",
    /// A recording was sealed.
    RecordingSealed = "recording.sealed",
    /// A recording could not go on; its session was ended.
    RecordingFailed = "recording.failed",
    /// Nothing can be recorded on a node: its sessions stand still, new ones are refused.
    RecordingStalled = "recording.stalled",
    /// Recording goes on after it stood still.
    RecordingResumed = "recording.resumed",
    /// Somebody replayed a recording.
    RecordingPlayed = "recording.played",
    /// A recording was exported as evidence.
    RecordingExported = "recording.exported",
    /// A recording was put on hold or released.
    RecordingHeld = "recording.held",
    /// Somebody asked to delete recordings.
    DeletionRequested = "recording.deletion_requested",
    /// A second person agreed to delete recordings; an entry for each recording follows.
    DeletionApproved = "recording.deletion_approved",
    /// Somebody refused to delete recordings.
    DeletionRefused = "recording.deletion_refused",
    /// A recording was deleted by two people.
    RecordingDeleted = "recording.deleted",
    /// The files of a deleted recording are gone.
    RecordingErased = "recording.erased",
    /// Free space for recordings fell below the warning threshold.
    SpaceLow = "recording.space_low",
    /// There is enough free space for recordings again.
    SpaceEnough = "recording.space_enough",
    /// The audit log was exported.
    AuditExported = "audit.exported",
    /// The audit log was verified.
    AuditVerified = "audit.verified",
    /// The audit log is signed with another key from here on.
    AuditKeyChanged = "audit.key_changed",
    /// A message could not be sent, and is given up.
    NotificationFailed = "notification.failed",
    /// A backup was made.
    BackupMade = "backup.made",
    /// A backup was restored.
    BackupRestored = "backup.restored",
}

impl std::fmt::Display for AuditKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
