# The bpi of perl 5.36's bignum dies beyond some dozens of digits, which 5.34's, that tutorials ask for, does not: the
# numbers it counts with become integers on the way. Everything else is the machine's bignum.
package bignum;

my ($machine) = grep { -e } map { "$_/bignum.pm" } grep { $_ ne '/etc/perl' } @INC;
require $machine;

my $bpi = \&bpi;
no warnings 'redefine';
*bpi = sub ($) {
    my $down = Math::BigFloat -> downgrade();
    Math::BigFloat -> downgrade(undef);
    my $x = $bpi -> (@_);
    Math::BigFloat -> downgrade($down);
    return $x;
};

1;
