<?php
// A client of GatewayWorker's protocol, written from its description: for each call a connection to the Register, and one
// to each gateway that the call is about. Reads calls as lines of JSON, {"call": NAME, "args": [...]}, and answers each with
// a line, {"value": ...} or {"error": ...}.
//
// php client.php REGISTER SECRET
declare(strict_types=1);

final class Client
{
    private const WAIT_S = 20;

    public function __construct(private string $register, private string $secret)
    {
    }

    // Commands.

    public function sendToAll(string $message, ?array $ids = null, ?array $exclude = null, bool $raw = false): void
    {
        if ($ids !== null) {
            foreach ($this->byGateway($ids) as $address => $numbers) {
                $this->tell($address, 6, ext: json_encode(['connections' => $numbers]), body: $message, raw: $raw);
            }
            return;
        }
        $excluded = $this->byGateway($exclude ?? []);
        foreach ($this->addresses() as $address) {
            $ext = isset($excluded[$address]) ? json_encode(['exclude' => $excluded[$address]]) : '';
            $this->tell($address, 6, ext: $ext, body: $message, raw: $raw);
        }
    }

    public function sendToClient(string $id, mixed $message): void
    {
        $this->tellClient($id, 5, body: $message);
    }

    public function sendToUid(mixed $uids, string $message): void
    {
        $this->tellAll(14, json_encode((array) $uids), $message);
    }

    public function sendToGroup(mixed $groups, string $message, ?array $exclude = null): void
    {
        $excluded = $this->byGateway($exclude ?? []);
        foreach ($this->addresses() as $address) {
            $ext = ['group' => (array) $groups, 'exclude' => $excluded[$address] ?? null];
            $this->tell($address, 22, ext: json_encode($ext), body: $message);
        }
    }

    public function closeClient(string $id, ?string $message = null): void
    {
        $this->tellClient($id, 7, body: $message);
    }

    public function destoryClient(string $id): void
    {
        $this->tellClient($id, 8);
    }

    public function bindUid(string $id, mixed $uid): void
    {
        $this->tellClient($id, 12, (string) $uid);
    }

    public function unbindUid(string $id, mixed $uid): void
    {
        $this->tellClient($id, 13, (string) $uid);
    }

    public function joinGroup(string $id, mixed $group): void
    {
        $this->tellClient($id, 20, (string) $group);
    }

    public function leaveGroup(string $id, mixed $group): void
    {
        $this->tellClient($id, 21, (string) $group);
    }

    public function ungroup(mixed $group): void
    {
        $this->tellAll(27, (string) $group);
    }

    public function setSession(string $id, array $session): void
    {
        $this->tellClient($id, 204, serialize($session));
    }

    public function setSocketSession(string $id, string $session): void
    {
        $this->tellClient($id, 204, $session);
    }

    public function updateSession(string $id, array $session): void
    {
        $this->tellClient($id, 9, serialize($session));
    }

    // What each gateway takes without a word.
    public function ping(): void
    {
        $this->tellAll(201);
    }

    // Questions.

    public function isOnline(string $id): int
    {
        return $this->askClient($id, 11);
    }

    public function getSession(string $id): ?array
    {
        return $this->askClient($id, 203);
    }

    public function isUidOnline(mixed $uid): int
    {
        return (int) $this->getClientIdByUid($uid);
    }

    public function getClientIdByUid(mixed $uid): array
    {
        $ids = [];
        foreach ($this->askAll(15, (string) $uid) as $address => $numbers) {
            foreach ($numbers as $number) {
                $ids[] = $this->id($address, $number);
            }
        }
        return $ids;
    }

    public function batchGetClientIdByUid(array $uids): array
    {
        $ids = array_fill_keys($uids, []);
        foreach ($this->askAll(16, json_encode($uids)) as $address => $byUid) {
            foreach ($byUid as $uid => $numbers) {
                foreach ($numbers as $number) {
                    $ids[$uid][] = $this->id($address, $number);
                }
            }
        }
        return $ids;
    }

    public function isUidsOnline(array $uids): array
    {
        return array_map(fn (array $ids) => (int) $ids, $this->batchGetClientIdByUid($uids));
    }

    public function getUidByClientId(string $id): mixed
    {
        [$address, $number] = $this->place($id);
        $where = ['connection_id' => [$number => $number]];
        $ext = json_encode(['fields' => ['uid'], 'where' => $where]);
        return $this->ask($address, 25, ext: $ext)[$number]['uid'] ?? null;
    }

    public function getAllClientSessions(): array
    {
        return $this->sessions($this->askAll(10));
    }

    public function getClientSessionsByGroup(mixed $group): array
    {
        return $this->sessions($this->askAll(23, (string) $group));
    }

    public function getAllClientIdCount(): int
    {
        return array_sum($this->askAll(24));
    }

    public function getClientIdCountByGroup(mixed $group): int
    {
        return array_sum($this->askAll(24, (string) $group));
    }

    public function batchGetClientIdCountByGroup(array $groups): array
    {
        $counts = array_fill_keys($groups, 0);
        foreach ($this->askAll(28, json_encode($groups)) as $byGroup) {
            foreach ($byGroup as $group => $count) {
                $counts[$group] += $count;
            }
        }
        return $counts;
    }

    public function getAllClientIdList(): array
    {
        return array_keys($this->select(['uid']));
    }

    public function getClientIdListByGroup(mixed $group): array
    {
        return array_keys($this->select(['uid'], ['groups' => (array) $group]));
    }

    public function getAllUidList(): array
    {
        return $this->uids($this->select(['uid']));
    }

    public function getUidListByGroup(mixed $group): array
    {
        return $this->uids($this->select(['uid'], ['groups' => (array) $group]));
    }

    public function getAllGroupIdList(): array
    {
        $groups = [];
        foreach ($this->askAll(26) as $of) {
            $groups = array_merge($groups, $of);
        }
        $groups = array_values(array_unique($groups));
        sort($groups);
        return $groups;
    }

    public function select(array $fields, array $where = []): array
    {
        $infos = [];
        $ext = json_encode(['fields' => $fields, 'where' => $where]);
        foreach ($this->askAll(25, $ext) as $address => $byNumber) {
            foreach ($byNumber as $number => $info) {
                $infos[$this->id($address, $number)] = $info;
            }
        }
        return $infos;
    }

    // The protocol.

    public function addresses(): array
    {
        $link = $this->connect($this->register);
        fwrite($link, json_encode(['event' => 'worker_connect', 'secret_key' => $this->secret]) . "\n");
        $said = json_decode((string) fgets($link), true);
        if (($said['event'] ?? '') !== 'broadcast_addresses') {
            throw new RuntimeException('the Register told no addresses');
        }
        return array_values($said['addresses']);
    }

    private function tell(
        string $address,
        int $command,
        int $number = 0,
        string $ext = '',
        mixed $body = '',
        bool $raw = false,
    ): void {
        // Closed at once, with what was written on its way.
        fclose($this->write($address, $command, $number, $ext, $body, $raw));
    }

    private function tellClient(string $id, int $command, string $ext = '', mixed $body = ''): void
    {
        [$address, $number] = $this->place($id);
        $this->tell($address, $command, $number, $ext, $body);
    }

    private function tellAll(int $command, string $ext = '', mixed $body = ''): void
    {
        foreach ($this->addresses() as $address) {
            $this->tell($address, $command, 0, $ext, $body);
        }
    }

    private function ask(string $address, int $command, int $number = 0, string $ext = ''): mixed
    {
        $link = $this->write($address, $command, $number, $ext);
        $length = unpack('Nlength', $this->read($link, 4))['length'];
        return unserialize($this->read($link, $length), ['allowed_classes' => false]);
    }

    private function askClient(string $id, int $command): mixed
    {
        [$address, $number] = $this->place($id);
        return $this->ask($address, $command, $number);
    }

    private function askAll(int $command, string $ext = ''): array
    {
        $answers = [];
        foreach ($this->addresses() as $address) {
            $answers[$address] = $this->ask($address, $command, 0, $ext);
        }
        return $answers;
    }

    private function write(
        string $address,
        int $command,
        int $number = 0,
        string $ext = '',
        mixed $body = '',
        bool $raw = false,
    ) {
        $secret = json_encode(['secret_key' => $this->secret]);
        $packets = $this->packet(202, 0, '', $secret, false) . $this->packet($command, $number, $ext, $body, $raw);
        $link = $this->connect($address);
        if (fwrite($link, $packets) !== strlen($packets)) {
            throw new RuntimeException("$address took not all");
        }
        return $link;
    }

    private function packet(int $command, int $number, string $ext, mixed $body, bool $raw): string
    {
        $flag = (is_scalar($body) ? 1 : 0) | ($raw ? 2 : 0);
        $body = is_scalar($body) ? (string) $body : serialize($body);
        $length = 28 + strlen($ext) + strlen($body);
        return pack('NCNnNnNCnN', $length, $command, 0, 0, 0, 0, $number, $flag, 0, strlen($ext)) . $ext . $body;
    }

    private function connect(string $address)
    {
        $link = stream_socket_client("tcp://$address", $code, $message, self::WAIT_S);
        if ($link === false) {
            throw new RuntimeException("$address: $message");
        }
        stream_set_timeout($link, self::WAIT_S);
        return $link;
    }

    private function read($link, int $length): string
    {
        $bytes = '';
        while (strlen($bytes) < $length) {
            $more = fread($link, $length - strlen($bytes));
            if ($more === false || $more === '') {
                throw new RuntimeException('there is no answer');
            }
            $bytes .= $more;
        }
        return $bytes;
    }

    private function place(string $id): array
    {
        ['ip' => $ip, 'port' => $port, 'number' => $number] = unpack('Nip/nport/Nnumber', hex2bin($id));
        return [long2ip($ip) . ":$port", $number];
    }

    private function id(string $address, int $number): string
    {
        [$ip, $port] = explode(':', $address);
        return bin2hex(pack('NnN', ip2long($ip), (int) $port, $number));
    }

    private function byGateway(array $ids): array
    {
        $by = [];
        foreach ($ids as $id) {
            [$address, $number] = $this->place($id);
            $by[$address][$number] = $number;
        }
        return $by;
    }

    private function sessions(array $answers): array
    {
        $sessions = [];
        foreach ($answers as $address => $byNumber) {
            foreach ($byNumber as $number => $session) {
                $sessions[$this->id($address, $number)] = $session === '' ? [] : unserialize($session);
            }
        }
        return $sessions;
    }

    private function uids(array $infos): array
    {
        $uids = array_unique(array_filter(array_column($infos, 'uid'), fn ($uid) => $uid !== null));
        sort($uids, SORT_STRING);
        return $uids;
    }
}

$client = new Client($argv[1], $argv[2]);
while (($line = fgets(STDIN)) !== false) {
    ['call' => $call, 'args' => $args] = json_decode($line, true, flags: JSON_THROW_ON_ERROR);
    try {
        $said = ['value' => $client->$call(...$args)];
    } catch (Throwable $error) {
        $said = ['error' => $error->getMessage()];
    }
    echo json_encode($said, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION), "\n";
}
